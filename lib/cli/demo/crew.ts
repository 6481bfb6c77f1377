/** The demo's workers: started on a free port, made slow and quick again, asked what they have served. */
import { fileURLToPath } from 'node:url';
import { SpillwayError } from '../../errors.js';
import type { GroupOptions } from '../../group/options.js';
import { Master } from '../../serve/master.js';
import type { Worker } from '../../serve/worker.js';
import type { WorkerReading } from './snapshot.js';

const PROGRAM = fileURLToPath(new URL('./program.js', import.meta.url));

/** How many ports are tried, the one that was asked for included. */
const PORTS_TRIED = 20;

/** Characters of the workers' error output that are kept. */
const STDERR_KEPT = 4000;

export interface CrewOptions extends Pick<GroupOptions, 'backlog' | 'policy' | 'selector'> {
  host: string | undefined;
  port: number;
  workers: number;
}

export class Crew {
  readonly master: Master;
  readonly #served: number[];
  readonly #slow: number[];
  readonly #stderr: string[] = [];

  private constructor(master: Master) {
    this.master = master;
    this.#served = master.workers.map(() => 0);
    this.#slow = master.workers.map(() => 0);
    master.on('worker:message', (worker, message) => this.#hear(worker, message));
    for (const { stderr } of master.workers) {
      stderr?.setEncoding('utf8').on('data', (text: string) => this.#stderr.push(text));
    }
  }

  /**
   * Starts the workers, on the next free port if the one asked for is taken.
   *
   * @throws {SpillwayError} what {@link Master.start} throws.
   */
  static async start(options: CrewOptions): Promise<Crew> {
    for (let tried = 1; ; tried++) {
      const port = options.port === 0 ? 0 : options.port + tried - 1;
      try {
        return new Crew(await Crew.#master({ ...options, port }));
      } catch (error) {
        const taken = error instanceof SpillwayError && error.code === 'ERR_SPILLWAY_ADDRESS_IN_USE';
        if (!taken || port === 0 || port === 65535 || tried === PORTS_TRIED) throw error;
      }
    }
  }

  static #master({ host, port, workers, backlog, policy, selector }: CrewOptions): Promise<Master> {
    return Master.start({
      script: PROGRAM,
      port,
      workers,
      backlog,
      policy,
      selector,
      ...(host === undefined ? {} : { host }),
      env: { HOST: host },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  }

  get port(): number {
    return this.master.group.address.port;
  }

  /** Where this machine reaches the group without a network: loopback, unless another address was asked for. */
  get localAddress(): string {
    const { address } = this.master.group.address;
    return address === '::' || address === '0.0.0.0' ? '127.0.0.1' : address;
  }

  /** Slots of the workers that live. */
  get alive(): number[] {
    return this.master.workers.filter(({ state }) => state !== 'exited').map(({ slot }) => slot);
  }

  get served(): number {
    return this.#served.reduce((sum, count) => sum + count, 0);
  }

  /** What the workers wrote to stderr, the last of it. */
  get stderr(): string {
    return this.#stderr.join('').slice(-STDERR_KEPT);
  }

  /** Makes one worker slow, and every other quick. */
  slowDown(slot: number | undefined, milliseconds: number): void {
    for (const worker of this.master.workers) {
      const slow = worker.slot === slot ? milliseconds : 0;
      if (this.#slow[worker.slot] === slow) continue;
      this.#slow[worker.slot] = slow;
      worker.send({ slow });
    }
  }

  facts(): WorkerReading[] {
    return this.master.workers.map(({ slot, pid, state }) => {
      const alive = state !== 'exited';
      const slow = alive ? (this.#slow[slot] ?? 0) : 0;
      return { slot, pid: pid ?? null, alive, slow, served: this.#served[slot] ?? 0 };
    });
  }

  #hear({ slot }: Worker, message: unknown): void {
    const { served } = message as { served?: unknown };
    if (typeof served === 'number') this.#served[slot] = served;
  }
}
