/** What systemd is told by its sd_notify(3) protocol. Does nothing where nobody asked for it. */
import { native } from '../../native.js';

/** Variables that are meant for this process alone. */
const VARIABLES = ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID'] as const;

export class Systemd {
  readonly #socket: string | undefined;
  /** Milliseconds between two signs of life; undefined: none are wanted. */
  readonly #watchdog: number | undefined;
  readonly #onError: (error: Error) => void;
  #timer: NodeJS.Timeout | undefined;
  #failed = false;

  /**
   * Takes the variables out of the environment: no worker shall speak in the name of the service.
   *
   * @param onError is told once.
   */
  constructor(env: NodeJS.ProcessEnv, onError: (error: Error) => void) {
    const { NOTIFY_SOCKET: socket, WATCHDOG_USEC: period, WATCHDOG_PID: pid } = env;
    for (const name of VARIABLES) delete env[name];
    this.#onError = onError;
    this.#socket = socket || undefined;
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

  #tell(assignments: string[]): void {
    if (this.#socket === undefined) return;
    try {
      native().notify(this.#socket, assignments.join('\n'));
    } catch (error) {
      if (!this.#failed) this.#onError(error as Error);
      this.#failed = true;
    }
  }
}
