/** The demo's workers: started on a free port, made slow and quick again, asked what they have served. */
import { fileURLToPath } from 'node:url';
import { SpillwayError } from '../../errors.js';
import type { GroupOptions } from '../../group/options.js';
import { type Master, serve } from '../../serve/master.js';
import type { Worker } from '../../serve/worker-process.js';
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
  /** Whether what waits at a slow worker is taken by free ones; otherwise one sees its queue fill. */
  rescue: boolean;
}

/** What is known of the worker of a slot. */
interface Post {
  worker: Worker;
  /** What it has served, and what those before it had. */
  served: number;
  servedBefore: number;
  /** Milliseconds it takes for a request. */
  slow: number;
}

export class Crew {
  readonly master: Master;
  readonly #posts: Post[] = [];
  readonly #stderr: string[] = [];

  private constructor(master: Master) {
    this.master = master;
    master.on('worker:start', (worker) => this.#take(worker));
    master.on('worker:message', (worker, message) => this.#hear(worker, message));
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
        const crew = new Crew(Crew.#master({ ...options, port }));
        await crew.master.ready;
        return crew;
      } catch (error) {
        const taken = error instanceof SpillwayError && error.code === 'ERR_SPILLWAY_ADDRESS_IN_USE';
        if (!taken || port === 0 || port === 65535 || tried === PORTS_TRIED) throw error;
      }
    }
  }

  static #master({ host, port, workers, backlog, policy, selector, rescue }: CrewOptions): Master {
    return serve({
      script: PROGRAM,
      port,
      workers,
      backlog,
      policy,
      selector,
      ...(rescue ? {} : { rescue: 0 }),
      // A worker that is slow for seconds shall be seen as what the selector makes of it alone.
      stuckAfter: 60_000,
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
    return this.#posts.filter(({ worker }) => worker.state !== 'exited').map(({ worker }) => worker.slot);
  }

  get served(): number {
    return this.#posts.reduce((sum, { served, servedBefore }) => sum + served + servedBefore, 0);
  }

  /** What the workers wrote to stderr, the last of it. */
  get stderr(): string {
    return this.#stderr.join('').slice(-STDERR_KEPT);
  }

  /** Makes one worker slow, and every other quick. */
  slowDown(slot: number | undefined, milliseconds: number): void {
    for (const post of this.#posts) {
      const slow = post.worker.slot === slot ? milliseconds : 0;
      if (post.slow === slow) continue;
      post.slow = slow;
      post.worker.send({ slow });
    }
  }

  facts(): WorkerReading[] {
    return this.#posts.map(({ worker: { slot, pid, state }, slow, served, servedBefore }) => {
      const alive = state !== 'exited';
      return { slot, pid: pid ?? null, alive, slow: alive ? slow : 0, served: served + servedBefore };
    });
  }

  /** A worker has been started, perhaps in the place of one that has gone: it is quick, and has served nothing yet. */
  #take(worker: Worker): void {
    const before = this.#posts[worker.slot];
    const servedBefore = before ? before.served + before.servedBefore : 0;
    this.#posts[worker.slot] = { worker, served: 0, servedBefore, slow: 0 };
    worker.stderr?.setEncoding('utf8').on('data', (text: string) => this.#stderr.push(text));
  }

  #hear(worker: Worker, message: unknown): void {
    const post = this.#posts[worker.slot];
    const { served } = message as { served?: unknown };
    if (post?.worker === worker && typeof served === 'number') post.served = served;
  }
}
