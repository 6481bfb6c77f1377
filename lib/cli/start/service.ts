/** A service from its start to its end: the master, and everything by which people and the system deal with it. */
import pc from 'picocolors';
import { NameLock } from '../../control/lock.js';
import { runtimeFolder } from '../../control/names.js';
import type {
  Controlled,
  LineSource,
  ReloadResult,
  ReopenResult,
  RestartResult,
  ScaleResult,
  ScaleTo,
  ServiceStatus,
  StopResult,
  UpgradeResult,
} from '../../control/protocol.js';
import { ControlServer } from '../../control/server.js';
import { SpillwayError } from '../../errors.js';
import { MAX_SLOTS } from '../../group/layout.js';
import { Legacy } from '../../serve/keeping.js';
import { type Master, serveKept } from '../../serve/master.js';
import { exitCodeOf } from '../failure.js';
import { aboutTime, counted } from '../text.js';
import { version } from '../version.js';
import { type DaemonReport, logFolder, masterLog } from './daemon.js';
import { exit, INTERRUPTED } from './exit.js';
import { readInstallation } from './installation.js';
import { type Log, openLog } from './log.js';
import { narrate, urlOf } from './narrate.js';
import { Output, OwnOutput } from './output.js';
import type { LogPlaces, Plan } from './plan.js';
import type { Signals } from './signals.js';
import { inheritedDescriptors, Systemd } from './systemd.js';

/** The exit code by which a keeper is asked to start the next master at once (EX_TEMPFAIL of sysexits.h). */
const START_ANEW = 75;

/** Milliseconds for the last lines to be written. */
const LAST_LINES = 1000;

/** Milliseconds for killed workers to be gone, when the end shall be at once. */
const AT_ONCE = 1000;

/** Lines of the workers that explain a start that failed to whoever did not see them. */
const LAST_WORDS = 20;

/**
 * Runs the service until it has ended.
 *
 * @throws {SpillwayError} when it could not start, or gave up. Nothing of it is left then.
 */
export async function runService(
  plan: Plan,
  signals: Signals,
  daemon: DaemonReport | undefined,
): Promise<void> {
  const own = new OwnOutput(daemon && masterLog(plan));
  const service = new Service(plan, signals, own, daemon);
  try {
    await service.run();
  } catch (error) {
    daemon?.failed(error, exitCodeOf(error), service.lastWords);
    throw error;
  } finally {
    daemon?.ended();
    await own.flush(LAST_LINES);
    own.close();
  }
}

class Service implements Controlled {
  /** What is in force; a reload puts another one in its place. */
  #plan: Plan;
  readonly #signals: Signals;
  readonly #own: OwnOutput;
  readonly #daemon: DaemonReport | undefined;
  readonly #log: Log;
  readonly #output: Output;
  readonly #systemd: Systemd;
  readonly #places: LogPlaces;
  #master: Master | undefined;
  #lock: NameLock | undefined;
  #control: ControlServer | undefined;
  #closing: Promise<void> | undefined;
  /** Another master goes on. */
  #isLeaving = false;
  /** Of what runs: the files may be replaced. */
  readonly #version = version();
  readonly #installation = readInstallation();
  /** How many workers there are to be when every scale() that was asked for is done. */
  #wanted: number;

  constructor(plan: Plan, signals: Signals, own: OwnOutput, daemon: DaemonReport | undefined) {
    this.#plan = plan;
    this.#signals = signals;
    this.#own = own;
    this.#daemon = daemon;
    const { instances = 1 } = plan.settings;
    this.#wanted = typeof instances === 'number' ? instances : instances.min;
    const { logs, outFile, errorFile, logFile, logFormat = 'text' } = plan.settings;
    this.#places = { logs: daemon ? logFolder(plan) : logs, outFile, errorFile, logFile } as LogPlaces;
    const onTerminal = process.stderr.isTTY === true && !daemon;
    this.#log = openLog({
      name: plan.name,
      format: logFormat,
      colours: onTerminal && pc.isColorSupported,
      dates: !onTerminal,
      write: (line) => own.stderr.write(Buffer.from(line)),
    });
    const colours = pc.createColors(process.stdout.isTTY === true && pc.isColorSupported);
    this.#output = new Output(this.#places, plan.name, own, colours, this.#log);
    const trouble =
      process.env.SPILLWAY_KEEPER === undefined
        ? 'systemd cannot be told anything'
        : 'the keeper has gone: should this master end, the workers end with it';
    this.#systemd = new Systemd(process.env, (error) => this.#log.warn(`${trouble} (${error.message})`));
  }

  get lines(): LineSource {
    return this.#output.history;
  }

  /** What the workers said last, with the slot in front. */
  get lastWords(): string[] {
    return this.lines.recent(LAST_WORDS, undefined).map(({ slot, text }) => `${slot} | ${text}`);
  }

  async run(): Promise<void> {
    try {
      this.#lock = await NameLock.claim(runtimeFolder(), this.#plan.name);
      this.#control = await ControlServer.open(this.#lock, this);
      this.#output.open(this.#wanted);
      this.#signals.lead({
        end: (signal) => void this.#end(`got ${signal}`),
        endNow: () => void this.#endNow(),
        reload: () => void this.reload({ together: false }).catch(() => {}),
        scaleBy: (by) => this.#quietly(this.scale({ by })),
        reopen: () => this.#quietly(this.reopen()),
      });
      if (this.#signals.ending) return;
      await this.#serve();
    } finally {
      await this.#close();
    }
  }

  /** Also while it ends. */
  async status(): Promise<ServiceStatus> {
    const master = this.#begun();
    const status = await master.status();
    return {
      name: this.#plan.name,
      version: this.#version,
      installation: this.#installation,
      kept: this.#systemd.isKept,
      program: this.#plan.program,
      config: this.#plan.configFile ?? null,
      logs: this.#places.logs ?? null,
      droppedLines: this.#output.lostLines,
      ...status,
      uptime: Math.round(status.uptime),
      workers: status.workers.map((worker) => ({
        ...worker,
        uptime: worker.uptime === null ? null : Math.round(worker.uptime),
      })),
    };
  }

  async reload({ together }: { together: boolean }): Promise<ReloadResult> {
    const master = this.#running();
    const begin = performance.now();
    this.#systemd.reloading();
    try {
      const next = this.#plan.configFile === undefined ? undefined : await this.#plan.again();
      const needRestart = next ? this.#plan.needRestart(next) : [];
      for (const note of next?.notes ?? []) this.#log.info(note);
      if (needRestart.length > 0) {
        this.#log.warn(
          { needRestart },
          `changed in the config file, but needs a restart of the master: ${needRestart.join(', ')}`,
        );
      }
      const taken = next ? this.#plan.takingOver(next) : this.#plan;
      await master.reload({ together, ...(next ? { change: taken.change } : {}) });
      this.#plan = taken;
      return { reloaded: true, workers: this.#wanted, after: since(begin), needRestart };
    } catch (error) {
      // The master has told of its own part in the log.
      if ((error as SpillwayError).code !== 'ERR_SPILLWAY_RELOAD')
        this.#complain(error as Error, 'reload: failed, nothing has changed: ');
      throw error;
    } finally {
      if (!this.#closing) this.#systemd.ready(this.#inAWord());
    }
  }

  async restart(): Promise<RestartResult> {
    const begin = performance.now();
    this.#log.info('restart: all workers end, then new ones start');
    await this.#running().restart();
    this.#log.info('restart: done');
    return { restarted: true, workers: this.#wanted, after: since(begin) };
  }

  async scale(to: ScaleTo): Promise<ScaleResult> {
    const master = this.#running();
    const begin = performance.now();
    const from = this.#wanted;
    const wanted = 'by' in to ? from + to.by : to.workers;
    if (wanted < 1 || wanted > MAX_SLOTS) {
      throw new SpillwayError(
        'ERR_SPILLWAY_OPTION_RANGE',
        `there cannot be ${wanted} workers; there can be: 1 to ${MAX_SLOTS}`,
        {
          hint: '`spillway stop` ends the service.',
        },
      );
    }
    // At once, so that signals in quick succession add up.
    this.#wanted = wanted;
    try {
      await master.scale(wanted);
    } catch (error) {
      if (this.#wanted === wanted) this.#wanted = (await master.status()).wanted;
      throw error;
    }
    if (!this.#closing) this.#systemd.status(this.#inAWord());
    return { from, to: wanted, after: since(begin) };
  }

  /** Joins an end that is under way. */
  async stop(): Promise<StopResult> {
    const begin = performance.now();
    await this.#end('asked on the control socket');
    return { stopped: true, pid: process.pid, after: since(begin) };
  }

  /** Everything is left as it is, for the next master: as if this one had been killed, but with its last words written. */
  async upgrade(): Promise<UpgradeResult> {
    const master = this.#running();
    if (!this.#systemd.isKept) {
      throw new SpillwayError('ERR_SPILLWAY_CONTROL', `nobody keeps what '${this.#plan.name}' has`, {
        hint: 'Start it with --monitor to have its master replaced while it serves.',
      });
    }
    await master.atRest();
    this.#running();
    this.#isLeaving = true;
    this.#log.info('upgrade: this master ends, and the next one goes on');
    void this.#leave(START_ANEW);
    return { pid: process.pid };
  }

  async #leave(code: number): Promise<never> {
    await this.#control?.close();
    await this.#output.leave(LAST_LINES);
    await this.#own.flush(LAST_LINES);
    exit(code);
  }

  async reopen(): Promise<ReopenResult> {
    const reopened = this.#own.reopen() + this.#output.reopen();
    this.#log.info(
      reopened === 0 ? 'there are no log files to open anew' : `${reopened} log files were opened anew`,
    );
    return { reopened };
  }

  async #serve(): Promise<void> {
    const begin = performance.now();
    const options = this.#plan.master;
    const legacy = new Legacy(inheritedDescriptors(process.env));
    const master = serveKept(options, this.#systemd.keeps ? { keeping: this.#systemd, legacy } : undefined);
    this.#master = master;
    this.#log.info(
      master.isSuccessor
        ? `${this.#plan.name}: this master goes on with what the one before has left`
        : `${this.#plan.name}: starting ${counted(this.#wanted, 'worker')} of ${this.#plan.program}`,
    );
    for (const note of this.#plan.notes) this.#log.info(note);
    let failure: unknown;
    narrate(master, this.#log, (error) => error === failure);
    master.on('worker:start', (worker) => this.#output.listen(worker));
    master.on('worker:adopted', (worker) => this.#output.listen(worker));
    // By themselves: nobody here has asked for it.
    master.on('demand', ({ to }) => {
      this.#wanted = to;
    });
    master.on('scale', ({ to, why }) => {
      if (why === undefined) return;
      this.#wanted = to;
      if (!this.#closing) this.#systemd.status(this.#inAWord());
    });
    try {
      await master.ready;
    } catch (error) {
      failure = error;
      if (master.leavesAll) {
        this.#complain(
          error as Error,
          'cannot go on with what the master before has left; another one tries: ',
        );
        await this.#leave(1);
      }
      if (!this.#closing) throw error;
      // It was told to end before all were ready.
      await this.#closing;
      return;
    }
    this.#wanted = master.wanted;
    this.#log.info(
      { after: since(begin) },
      `${this.#plan.name} is ready after ${aboutTime(since(begin))}: ${counted(this.#wanted, 'worker')}, process ${process.pid}`,
    );
    this.#systemd.ready(this.#inAWord());
    this.#daemon?.ready({
      name: this.#plan.name,
      pid: process.pid,
      logs: logFolder(this.#plan),
      urls: master.groups.map(urlOf),
    });
    try {
      await master.closed;
    } catch (error) {
      failure = error;
      // By its own decision: the next one would fare no better.
      this.#systemd.stopping();
      throw error;
    }
    await this.#closing;
  }

  #end(why: string): Promise<void> {
    if (this.#closing) return this.#closing;
    this.#log.info(`${this.#plan.name} ends: ${why}`);
    this.#systemd.stopping();
    this.#closing = this.#master?.close() ?? Promise.resolve();
    // run() tells the reason of a failure.
    this.#closing.catch(() => {});
    return this.#closing;
  }

  async #endNow(): Promise<void> {
    this.#log.warn('ends at once');
    const late = setTimeout(() => exit(INTERRUPTED), AT_ONCE);
    await this.#master?.close({ timeout: 0 }).catch(() => {});
    clearTimeout(late);
    exit(INTERRUPTED);
  }

  /** The order counts: the socket file goes while the name is still ours. */
  async #close(): Promise<void> {
    // What made the start fail may have left a master.
    await this.#master?.close().catch(() => {});
    this.#systemd.close();
    await this.#control?.close();
    this.#lock?.release();
    if (this.#closing) this.#log.info(`${this.#plan.name} has ended`);
    await this.#output.close(LAST_LINES);
  }

  #begun(): Master {
    if (this.#master) return this.#master;
    throw new SpillwayError('ERR_SPILLWAY_CONTROL', `'${this.#plan.name}' is just starting`, {
      hint: 'Try again.',
    });
  }

  #running(): Master {
    const master = this.#begun();
    if (!this.#closing && !this.#isLeaving) return master;
    throw new SpillwayError('ERR_SPILLWAY_CONTROL', `'${this.#plan.name}' is ending`, {
      hint: 'Wait until it has ended.',
    });
  }

  /** What a signal has asked for has nobody to tell of a failure but the log. */
  #quietly(done: Promise<unknown>): void {
    done.catch((error: Error) => this.#complain(error));
  }

  #complain(error: Error, what = ''): void {
    this.#log.error({ code: (error as SpillwayError).code }, what + error.message);
  }

  #inAWord(): string {
    return `serving with ${counted(this.#wanted, 'worker')}`;
  }
}

function since(begin: number): number {
  return Math.round(performance.now() - begin);
}
