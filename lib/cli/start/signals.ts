/** What the signals of a master mean. SIGUSR1 is left to Node's inspector. */
import { closeSync, openSync } from 'node:fs';

/** Ctrl-C may reach a process several times over: by the terminal, by npm. Repeats within so many milliseconds are one. */
const REPEAT = 500;

export interface SignalActions {
  /** TERM, the first INT, and HUP when the terminal has gone. */
  end(signal: NodeJS.Signals): void;
  /** A second INT. */
  endNow(): void;
  /** HUP. */
  reload(): void;
  /** TTIN and TTOU: so many workers more. */
  scaleBy(workers: 1 | -1): void;
  /** USR2. */
  reopen(): void;
}

/** Listens from its construction on, so that no moment of the start is left to the system's own way of ending. */
export class Signals {
  readonly #hadTerminal = hasTerminal();
  #actions: SignalActions | undefined;
  /** The first signal that asked for the end, and when. */
  #end: { signal: NodeJS.Signals; at: number } | undefined;

  constructor() {
    process.on('SIGTERM', () => this.#askEnd('SIGTERM'));
    process.on('SIGINT', () => {
      if (this.#end && performance.now() - this.#end.at > REPEAT) this.#actions?.endNow();
      else this.#askEnd('SIGINT');
    });
    process.on('SIGHUP', () => {
      // The shell or the connection behind the terminal has ended: nobody wants a reload then.
      if (this.#hadTerminal && !hasTerminal()) this.#askEnd('SIGHUP');
      else this.#actions?.reload();
    });
    process.on('SIGTTIN', () => this.#actions?.scaleBy(1));
    process.on('SIGTTOU', () => this.#actions?.scaleBy(-1));
    process.on('SIGUSR2', () => this.#actions?.reopen());
  }

  /** Whether the end has been asked for. */
  get ending(): boolean {
    return this.#end !== undefined;
  }

  /** From now on these are called; at once, if the end has been asked for already. */
  lead(actions: SignalActions): void {
    this.#actions = actions;
    if (this.#end) actions.end(this.#end.signal);
  }

  #askEnd(signal: NodeJS.Signals): void {
    if (this.#end) return;
    this.#end = { signal, at: performance.now() };
    this.#actions?.end(signal);
  }
}

/** Whether this process has a controlling terminal (tty(4)). */
function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'));
    return true;
  } catch {
    return false;
  }
}
