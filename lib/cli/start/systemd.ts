/** What systemd is told by its sd_notify(3) protocol. Does nothing where nobody asked for it. */
import { native } from '../../native.js';

/** Variables that are meant for this process alone. */
const VARIABLES = ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID', 'FDSTORE', 'SPILLWAY_KEEPER'] as const;

/** SD_LISTEN_FDS_START in sd_listen_fds(3). */
const FIRST_FD = 3;

/**
 * Descriptors that were kept for this process, by name; without a name they are nobody's. Takes the variables out of the
 * environment.
 */
export function inheritedDescriptors(env: NodeJS.ProcessEnv): Map<string, number> {
  const { LISTEN_FDS: count, LISTEN_FDNAMES: names = '', LISTEN_PID: pid } = env;
  for (const name of ['LISTEN_FDS', 'LISTEN_FDNAMES', 'LISTEN_PID']) delete env[name];
  if (Number(pid) !== process.pid) return new Map();
  const named = names.split(':').slice(0, Number(count));
  return new Map(named.map((name, index) => [name, FIRST_FD + index]));
}

export class Systemd {
  readonly #socket: string | undefined;
  /** Milliseconds between two signs of life; undefined: none are wanted. */
  readonly #watchdog: number | undefined;
  readonly #onError: (error: Error) => void;
  #timer: NodeJS.Timeout | undefined;
  readonly #keeps: boolean;
  /** And not a keeper of our own. */
  readonly #isSystemd: boolean;
  readonly #kept = new Set<string>();
  #failed = false;

  /**
   * Takes the variables out of the environment: no worker shall speak in the name of the service.
   *
   * @param onError is told once.
   */
  constructor(env: NodeJS.ProcessEnv, onError: (error: Error) => void) {
    // What a process before this one has stored is still there, under these names.
    for (const name of (env.LISTEN_FDNAMES ?? '').split(':')) if (name !== '') this.#kept.add(name);
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: period, WATCHDOG_PID: pid } = env;
    this.#onError = onError;
    this.#socket = socket || undefined;
    this.#isSystemd = env.SPILLWAY_KEEPER === undefined;
    this.#keeps =
      this.#socket !== undefined && (Number(env.FDSTORE) > 0 || env.SPILLWAY_KEEPER !== undefined);
    for (const name of VARIABLES) delete env[name];
    const isOurs = pid === undefined || Number(pid) === process.pid;
    const microseconds = Number(period);
    this.#watchdog = isOurs && microseconds > 0 ? microseconds / 1000 / 2 : undefined;
  }

  /** The service serves, for the first time or again after {@link reloading}. */
  ready(status: string): void {
    this.#tell(['READY=1', `STATUS=${status}`, `MAINPID=${process.pid}`]);
    if (this.#watchdog === undefined || this.#timer) return;
    // Beats of this event loop: a master that hangs is what the watchdog is there to find.
    this.#timer = setInterval(() => this.#tell(['WATCHDOG=1']), this.#watchdog);
    this.#tell(['WATCHDOG=1']);
  }

  status(status: string): void {
    this.#tell([`STATUS=${status}`]);
  }

  /** The time stamp tells systemd which reload is over when `READY=1` follows (Type=notify-reload). */
  reloading(): void {
    this.#tell(['RELOADING=1', 'STATUS=reloading', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`]);
  }

  stopping(): void {
    this.#tell(['STOPPING=1', 'STATUS=stopping']);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  /** Whether descriptors are kept there for the next process of this service. */
  get keeps(): boolean {
    return this.#keeps;
  }

  /** And still are, as far as is known. */
  get isKept(): boolean {
    return this.#keeps && !this.#failed;
  }

  /** Of the same name there is one at a time; systemd itself would keep both. */
  keep(name: string, fd: number): void {
    if (this.#isSystemd && this.#kept.has(name)) this.drop(name);
    this.#kept.add(name);
    // A map of the kernel's always looks as if its other end had gone, and would be given up at once.
    this.#tell(['FDSTORE=1', `FDNAME=${name}`, 'FDPOLL=0'], fd);
  }

  drop(name: string): void {
    this.#kept.delete(name);
    this.#tell(['FDSTOREREMOVE=1', `FDNAME=${name}`]);
  }

  #tell(assignments: string[], fd?: number): void {
    if (this.#socket === undefined) return;
    try {
      native().notify(this.#socket, assignments.join('\n'), fd);
    } catch (error) {
      if (!this.#failed) this.#onError(error as Error);
      this.#failed = true;
    }
  }
}
