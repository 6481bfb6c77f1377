/** One HTTP/1 connection of the load: requests one after another on a bare socket, so that nothing is done unseen. */
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { type Response, ResponseReader } from './http1.js';
import {
  type ConnectionCounts,
  type Filled,
  monotonic,
  type Outcome,
  type RequestRecord,
} from './protocol.js';

interface UnderWay {
  id: string;
  started: number;
  reused: boolean;
  written: boolean;
  timer: NodeJS.Timeout;
  settle: (record: RequestRecord) => void;
}

export class Http1Connection {
  readonly #options: Filled;
  readonly #counts: ConnectionCounts;
  readonly #socket: Socket;
  readonly #reader = new ResponseReader();
  #underWay: UnderWay | undefined;
  #connected: number | undefined;
  /** The socket knows it only while it is open. */
  #port = 0;
  #used = false;
  #over = false;

  constructor(options: Filled, counts: ConnectionCounts, localAddress: string | undefined) {
    this.#options = options;
    this.#counts = counts;
    const { host, port, protocol } = options;
    const target = { host, port, ...(localAddress === undefined ? {} : { localAddress }) };
    const secure = protocol === 'https';
    this.#socket = secure ? connectTls({ ...target, rejectUnauthorized: false }) : connect(target);
    this.#socket.setNoDelay(true);
    this.#socket.on('connect', () => {
      counts.opened++;
      this.#port = this.#socket.localPort ?? 0;
      this.#connected = monotonic();
    });
    this.#socket.on(secure ? 'secureConnect' : 'connect', () => this.#write());
    this.#socket.on('data', (chunk) => this.#read(() => this.#reader.push(chunk)));
    this.#socket.on('end', () => {
      this.#read(() => (this.#reader.untouched ? undefined : this.#reader.end()));
      this.#ended(undefined);
    });
    this.#socket.on('error', (error: NodeJS.ErrnoException) => this.#ended(error));
    this.#socket.on('close', () => this.#ended(undefined));
  }

  /** Whether it can carry no more requests. */
  get over(): boolean {
    return this.#over;
  }

  /** Sends a request, as soon as the connection is there. Only one at a time, and none when it is over. */
  request(id: string): Promise<RequestRecord> {
    return new Promise((settle) => {
      const timer = setTimeout(() => {
        this.#settle('timedOut');
        this.close();
      }, this.#options.timeout);
      this.#underWay = { id, started: monotonic(), reused: this.#used, written: false, timer, settle };
      if (this.#used) this.#write();
    });
  }

  close(): void {
    this.#over = true;
    this.#socket.destroy();
  }

  #write(): void {
    const underWay = this.#underWay;
    if (!underWay) return;
    this.#used = true;
    const { path, host, port, mode } = this.#options;
    const connection = mode === 'keep-alive' ? 'keep-alive' : 'close';
    const head = `GET ${path} HTTP/1.1\r\nHost: ${host}:${port}\r\nConnection: ${connection}\r\nX-Request: ${underWay.id}\r\n\r\n`;
    this.#socket.write(head, (error) => {
      if (!error) underWay.written = true;
    });
  }

  #read(take: () => Response | undefined): void {
    try {
      const response = take();
      if (!response) return;
      if (!this.#underWay) {
        this.close();
        return;
      }
      if (response.last) this.#over = true;
      if (response.status !== 200) this.#settle('wrong', `status ${response.status}`);
      else this.#settle('answered', undefined, whoAnswered(response.body));
      if (response.last && this.#options.mode === 'keep-alive') this.#counts.ended++;
    } catch (error) {
      this.#settle('wrong', (error as Error).message);
      this.close();
    }
  }

  #ended(error: NodeJS.ErrnoException | undefined): void {
    if (this.#underWay) this.#settle(this.#failure(this.#underWay, error), error?.code ?? error?.message);
    else if (!this.#over) this.#counts[error ? 'reset' : 'ended']++;
    this.#over = true;
  }

  #failure({ written, reused }: UnderWay, error: NodeJS.ErrnoException | undefined): Outcome {
    if (error?.code === 'ECONNREFUSED') return 'refused';
    if (error && !['ECONNRESET', 'EPIPE'].includes(error.code ?? '')) return 'other';
    if (reused && this.#reader.untouched) return 'idleRace';
    if (!written) return 'resetBefore';
    return error ? 'resetAfter' : 'cut';
  }

  #settle(outcome: Outcome, error?: string, who: { pid?: number; slot?: string } = {}): void {
    const underWay = this.#underWay;
    if (!underWay) return;
    this.#underWay = undefined;
    clearTimeout(underWay.timer);
    const { id, started, reused } = underWay;
    const connected = reused ? started : this.#connected;
    underWay.settle({
      id,
      outcome,
      ...(error === undefined ? {} : { error }),
      port: this.#port,
      reused,
      started,
      ...(connected === undefined ? {} : { connected }),
      ended: monotonic(),
      ...who,
    });
  }
}

/** What the served programs tell about themselves, if they do. */
export function whoAnswered(body: string): { pid?: number; slot?: string } {
  try {
    const { pid, slot } = JSON.parse(body) as { pid?: number; slot?: string };
    return { ...(pid === undefined ? {} : { pid }), ...(slot === undefined ? {} : { slot }) };
  } catch {
    return {};
  }
}
