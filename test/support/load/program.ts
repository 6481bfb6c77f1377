/**
 * The load, in a process of its own: the test's event loop, in which a master runs, is neither disturbed by it nor does
 * it delay what is measured.
 *
 * Requests are due at fixed times, whatever became of those before. Of a `keep-alive` load each connection takes the
 * ones that are due while it is free (HTTP/1) or in turn (HTTP/2). Nothing is ever tried again.
 */
import { Http1Connection } from './http1-connection.js';
import { Http2Connection } from './http2-connection.js';
import {
  type ConnectionCounts,
  type Filled,
  type FromLoad,
  monotonic,
  type RequestRecord,
  type ToLoad,
} from './protocol.js';

/** Milliseconds between two looks at the schedule. */
const LOOK_EVERY = 2;
/** Milliseconds between two reports. */
const REPORT_EVERY = 50;
/** Requests under way at one time, so that a server that hangs costs a bounded number of sockets. */
const MOST_UNDER_WAY = 1000;
/** Milliseconds after which a load that nobody stops ends, and its test with it. */
const LONGEST = 60_000;

class Generator {
  readonly #options: Filled;
  readonly #begun = monotonic();
  readonly #records: RequestRecord[] = [];
  readonly #counts: ConnectionCounts = { opened: 0, ended: 0, reset: 0 };
  readonly #pool: (Http1Connection | Http2Connection | undefined)[];
  readonly #busy = new Set<number>();
  readonly #timers: NodeJS.Timeout[];
  #opened = 0;
  #sent = 0;
  #skipped = 0;
  #next = 0;
  #stopped = false;

  constructor(options: Filled) {
    this.#options = options;
    this.#pool = Array.from({ length: options.connections });
    this.#timers = [
      setInterval(() => this.#sendDue(), LOOK_EVERY),
      setInterval(() => this.#report(), REPORT_EVERY),
    ];
  }

  stop(): void {
    this.#stopped = true;
    this.#endIfDone();
  }

  get #underWay(): number {
    return this.#sent - this.#records.length;
  }

  #sendDue(): void {
    if (this.#stopped) return;
    const due = Math.floor(((monotonic() - this.#begun) / 1000) * this.#options.rate);
    while (this.#sent + this.#skipped < due) {
      if (this.#underWay >= MOST_UNDER_WAY || !this.#sendOne()) this.#skipped++;
    }
  }

  /** @returns whether there was a connection for it. */
  #sendOne(): boolean {
    if (this.#options.mode === 'per-request') {
      const connection = new Http1Connection(this.#options, this.#counts, this.#source());
      void this.#send(connection).then(() => connection.close());
      return true;
    }
    const multiplexed = this.#options.protocol === 'h2c' || this.#options.protocol === 'h2';
    const place = this.#freePlace();
    if (place === undefined) return false;
    let connection = this.#pool[place];
    if (!connection || connection.over) {
      const Connection = multiplexed ? Http2Connection : Http1Connection;
      connection = new Connection(this.#options, this.#counts, this.#source());
      this.#pool[place] = connection;
    }
    if (!multiplexed) this.#busy.add(place);
    void this.#send(connection).then(() => this.#busy.delete(place));
    return true;
  }

  #freePlace(): number | undefined {
    for (let tried = 0; tried < this.#pool.length; tried++) {
      const place = this.#next++ % this.#pool.length;
      if (!this.#busy.has(place)) return place;
    }
    return undefined;
  }

  #source(): string | undefined {
    const { sources } = this.#options;
    return sources[this.#opened++ % sources.length];
  }

  async #send(connection: Http1Connection | Http2Connection): Promise<void> {
    const id = `${this.#options.name}-${this.#sent++}`;
    this.#records.push(await connection.request(id));
    if (this.#stopped) setImmediate(() => this.#endIfDone());
  }

  #report(): void {
    const answered = this.#records.reduce((sum, { outcome }) => sum + (outcome === 'answered' ? 1 : 0), 0);
    tell({
      event: 'progress',
      sent: this.#sent,
      answered,
      failed: this.#records.length - answered,
    });
  }

  #endIfDone(): void {
    if (this.#underWay > 0) return;
    for (const timer of this.#timers) clearInterval(timer);
    const connections = { ...this.#counts };
    for (const connection of this.#pool) connection?.close();
    tell({ event: 'done', records: this.#records, connections, skipped: this.#skipped }, () =>
      process.disconnect(),
    );
  }
}

function tell(message: FromLoad, then: () => void = () => {}): void {
  if (process.connected) process.send?.(message, then);
}

let generator: Generator | undefined;
process.on('message', (message: ToLoad) => {
  if (message.event === 'start') generator = new Generator(message.options);
  else generator?.stop();
});
// The test that wanted the load is over, well or badly.
process.on('disconnect', () => process.exit());
setTimeout(() => process.exit(1), LONGEST).unref();
