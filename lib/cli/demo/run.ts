/** One run of the demo, from the start of the workers to the last line. */
import { setTimeout as wait } from 'node:timers/promises';
import pc from 'picocolors';
import type { SpillwayError } from '../../errors.js';
import type { MasterEvents } from '../../serve/master.js';
import { doctorCall } from '../doctor-call.js';
import { whatIsMissing } from '../what-is-missing.js';
import { Crew, type CrewOptions } from './crew.js';
import { Ending } from './ending.js';
import { renderLine } from './lines.js';
import { Load } from './load.js';
import { type Key, Screen } from './screen.js';
import { Observer, resultOf, type Snapshot } from './snapshot.js';
import { renderTable } from './table.js';
import { byHand, whatOneSees } from './words.js';

export interface DemoOptions extends CrewOptions {
  flood: boolean;
  /** Seconds until the demo ends by itself; undefined: never. */
  seconds: number | undefined;
  json: boolean;
}

/** Milliseconds between two views in a terminal, and between two lines elsewhere. */
const REDRAW_EVERY = 250;
const LINE_EVERY = 1000;

/** The flood brings so many requests per second and worker, but not more than MOST_LOAD in all. */
const LOAD_PER_WORKER = 100;
const MOST_LOAD = 1000;
/** The slow worker's share of the flood is so many times what it can do. */
const OVERLOAD = 10;

/** Milliseconds for the workers' last reports, which come every 250. */
const LAST_REPORTS = 2000;
/** The same when the user waits: a slow worker's may be missing then. */
const LAST_REPORTS_QUIT = 300;

/** Runs the demo until it is told to end. */
export async function runDemo(options: DemoOptions): Promise<void> {
  const ending = new Ending();
  const crew = await startCrew(options, ending);
  if (!crew) return;
  const demo = new Demo(options, crew, ending);
  try {
    await demo.run();
  } finally {
    await demo.close();
  }
  demo.sayResult();
}

/** Undefined if the user has ended the start: a Ctrl-C reaches the workers as well. */
async function startCrew(options: DemoOptions, ending: Ending): Promise<Crew | undefined> {
  try {
    return await Crew.start(options);
  } catch (error) {
    if (ending.isAskedByUser) return undefined;
    throw error;
  }
}

class Demo {
  readonly #options: DemoOptions;
  readonly #crew: Crew;
  readonly #ending: Ending;
  readonly #load: Load;
  readonly #observer = new Observer();
  readonly #begun = performance.now();
  readonly #notices: string[] = [];
  readonly #rate: number;
  readonly #slowness: number;
  #screen: Screen | undefined;
  #ticking: NodeJS.Timeout | undefined;
  /** The worker that the flood makes slow. */
  #victim: number;
  #last!: Snapshot;
  #final!: Snapshot;
  #stopping = false;

  constructor(options: DemoOptions, crew: Crew, ending: Ending) {
    this.#options = options;
    this.#crew = crew;
    this.#ending = ending;
    this.#load = new Load({ host: crew.localAddress, port: crew.port });
    this.#rate = Math.min(MOST_LOAD, LOAD_PER_WORKER * options.workers);
    this.#slowness = Math.round((1000 * OVERLOAD * options.workers) / this.#rate);
    this.#victim = Math.min(1, options.workers - 1);
    const { master } = crew;
    master.on('worker:exit', (exit) => this.#lost(exit));
    master.on('error', (error) => this.#notice(error.message));
    master.closed.catch((error: SpillwayError) => this.#ending.fail(error));
    const { notice } = master.group;
    if (notice) this.#notices.push(whatIsMissing(master.group.getOption('selector'), notice, doctorCall()));
  }

  /** Shows what happens until the end is asked for, then lets the load run dry where that was by the clock. */
  async run(): Promise<void> {
    const { port, json, flood, seconds } = this.#options;
    if (port !== 0 && port !== this.#crew.port) {
      this.#say(`port ${port} is taken; the demo takes the next free one, ${this.#crew.port}`);
    }
    if (!json && process.stdout.isTTY) this.#screen = new Screen((key) => this.#press(key));
    if (!this.#screen) this.#introduce();
    if (flood) this.#toggleFlood();
    this.#observe();
    this.#show();

    const interval = this.#screen ? REDRAW_EVERY : LINE_EVERY;
    this.#ticking = setInterval(() => {
      this.#observe();
      this.#show();
    }, interval);
    const time =
      seconds === undefined ? undefined : setTimeout(() => this.#ending.timeIsUp(), seconds * 1000);
    const reason = await this.#ending.asked;
    clearTimeout(time);
    clearInterval(this.#ticking);

    this.#stopping = true;
    this.#observe();
    if (!this.#ending.readerGone) this.#show();
    this.#load.stop();
    if (reason === 'time') await this.#runDry();
    await this.#lastReports(reason === 'time' ? LAST_REPORTS : LAST_REPORTS_QUIT);
    this.#final = this.#take();
  }

  /** Gives the terminal back and ends workers and load. */
  async close(): Promise<void> {
    this.#stopping = true;
    clearInterval(this.#ticking);
    this.#screen?.close();
    this.#load.close();
    await this.#crew.master.close();
    if (this.#crew.stderr !== '') process.stderr.write(this.#crew.stderr);
  }

  sayResult(): void {
    const { group } = this.#crew.master;
    if (this.#options.json) {
      const result = resultOf(this.#last, this.#final, { port: this.#crew.port, notice: group.notice });
      process.stdout.write(`${JSON.stringify(result)}\n`);
    } else if (!this.#ending.readerGone) {
      const served = this.#final.workers.reduce((sum, worker) => sum + worker.served, 0);
      process.stdout.write(`The demo has ended: ${served} connections served.\n`);
    }
  }

  #introduce(): void {
    const { policy, backlog, json } = this.#options;
    for (const notice of this.#notices) this.#say(notice);
    if (json) return;
    const { group, workers } = this.#crew.master;
    process.stdout.write(
      [
        `Spillway demo on ${this.#url()}: selector ${group.getOption('selector')}, policy ${policy}, backlog ${backlog}`,
        `Workers: ${workers.map(({ slot, pid }) => `${slot} (process ${pid})`).join(', ')}`,
        `By hand, in another terminal: ${byHand(this.#url())}`,
        '',
      ].join('\n'),
    );
  }

  #url(): string {
    const { host } = this.#options;
    const name = host === undefined ? 'localhost' : host.includes(':') ? `[${host}]` : host;
    return `http://${name}:${this.#crew.port}`;
  }

  #press(key: Key): void {
    if (key === 'q') {
      this.#ending.request();
      return;
    }
    if (key === 'f') this.#toggleFlood();
    else this.#nextVictim();
    this.#show();
  }

  #toggleFlood(): void {
    if (this.#load.sending) {
      this.#load.stop();
      this.#crew.slowDown(undefined, 0);
    } else {
      this.#crew.slowDown(this.#victim, this.#slowness);
      this.#load.start(this.#rate);
    }
    this.#observe();
    if (!this.#screen && !this.#options.json) process.stdout.write(`${whatOneSees(this.#last)}\n`);
  }

  /** The next worker that lives. */
  #nextVictim(): void {
    const { alive } = this.#crew;
    this.#victim = alive.find((slot) => slot > this.#victim) ?? alive[0] ?? this.#victim;
    if (this.#load.sending) this.#crew.slowDown(this.#victim, this.#slowness);
    this.#observe();
  }

  /** Waits until every request has had its end, so that all sums agree. */
  async #runDry(): Promise<void> {
    this.#crew.slowDown(undefined, 0);
    await Promise.race([this.#load.drain(), this.#ending.askedByUser]);
  }

  /** The load has counted its answers; the workers' own counts follow. */
  async #lastReports(patience: number): Promise<void> {
    const deadline = performance.now() + patience;
    while (this.#crew.served < this.#load.counts.answered && performance.now() < deadline) await wait(10);
  }

  #take(): Snapshot {
    return this.#observer.observe({
      seconds: (performance.now() - this.#begun) / 1000,
      stats: this.#crew.master.group.stats(),
      workers: this.#crew.facts(),
      load: {
        ...this.#load.counts,
        rate: this.#load.sending ? this.#rate : null,
        underWay: this.#load.underWay,
      },
    });
  }

  #observe(): void {
    this.#last = this.#take();
  }

  #show(): void {
    if (this.#screen) this.#screen.show(this.#view(this.#last));
    else if (!this.#options.json) process.stdout.write(`${renderLine(this.#last)}\n`);
  }

  #view(snapshot: Snapshot): string {
    const scene = {
      url: this.#url(),
      policy: this.#options.policy,
      notices: this.#notices,
      victim: this.#victim,
      flooded: this.#load.sending,
      keys: this.#screen?.keys === true,
      ended: this.#stopping,
    };
    return renderTable(snapshot, scene, this.#screen?.size ?? { columns: 80, rows: 24 }, pc);
  }

  #lost({ slot, pid, code, signal }: MasterEvents['worker:exit'][0]): void {
    if (this.#stopping) return;
    this.#notice(
      `worker ${slot} (process ${pid}) has gone: ${signal ?? `exit code ${code}`}; another follows`,
    );
    if (slot === this.#victim) this.#nextVictim();
  }

  #notice(text: string): void {
    this.#notices.push(text);
    if (!this.#screen) this.#say(text);
  }

  #say(text: string): void {
    process.stderr.write(`spillway: ${text}\n`);
  }
}
