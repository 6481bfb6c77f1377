/** One HTTP/2 connection of the load; its requests may overlap. */
import { type ClientHttp2Session, connect, constants } from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { whoAnswered } from './http1-connection.js';
import { observed, StreamsSent } from './http2-wire.js';
import {
  type ConnectionCounts,
  type Filled,
  monotonic,
  type Outcome,
  type RequestRecord,
} from './protocol.js';

const { NGHTTP2_REFUSED_STREAM, NGHTTP2_NO_ERROR } = constants;

export class Http2Connection {
  readonly #options: Filled;
  readonly #session: ClientHttp2Session;
  readonly #sent = new StreamsSent();
  #connected: number | undefined;
  #port = 0;
  #requests = 0;
  #underWay = 0;
  #over = false;
  #error: NodeJS.ErrnoException | undefined;

  constructor(options: Filled, counts: ConnectionCounts, localAddress: string | undefined) {
    this.#options = options;
    const socket = connectTo(options, localAddress);
    socket.on('connect', () => {
      counts.opened++;
      this.#port = socket.localPort ?? 0;
      this.#connected = monotonic();
    });
    const scheme = options.protocol === 'h2' ? 'https' : 'http';
    this.#session = connect(`${scheme}://localhost`, {
      createConnection: () => observed(socket, this.#sent),
    });
    this.#session.on('goaway', () => {
      if (!this.#over) counts.ended++;
      this.#over = true;
    });
    this.#session.on('error', (error: NodeJS.ErrnoException) => {
      this.#error = error;
      if (!this.#over && this.#connected !== undefined && this.#underWay === 0) counts.reset++;
      this.#over = true;
    });
    this.#session.on('close', () => {
      if (!this.#over) counts.ended++;
      this.#over = true;
    });
  }

  get over(): boolean {
    return this.#over || this.#session.closed || this.#session.destroyed;
  }

  request(id: string): Promise<RequestRecord> {
    const started = monotonic();
    const reused = this.#requests++ > 0;
    this.#underWay++;
    return new Promise((settle) => {
      let body = '';
      let status: number | undefined;
      let whole = false;
      let failure: NodeJS.ErrnoException | undefined;
      let late = false;
      const stream = this.#session.request({ ':path': this.#options.path, 'x-request': id });
      const timer = setTimeout(() => {
        late = true;
        stream.close(constants.NGHTTP2_CANCEL);
      }, this.#options.timeout);
      stream.setEncoding('utf8');
      stream.on('response', (headers) => {
        status = headers[':status'];
      });
      stream.on('data', (text: string) => {
        body += text;
      });
      stream.on('end', () => {
        whole = status !== undefined;
      });
      stream.on('error', (error: NodeJS.ErrnoException) => {
        failure = error;
      });
      stream.on('close', () => {
        clearTimeout(timer);
        this.#underWay--;
        // A stream that its session takes along names the session's error as the cause.
        const lost = this.#error ?? (failure?.cause as NodeJS.ErrnoException | undefined);
        const error = lost ?? failure;
        const outcome = ((): Outcome => {
          if (late) return 'timedOut';
          if (whole && stream.rstCode === NGHTTP2_NO_ERROR) return status === 200 ? 'answered' : 'wrong';
          if (error?.code === 'ECONNREFUSED') return 'refused';
          if (stream.rstCode === NGHTTP2_REFUSED_STREAM)
            return this.#sent.has(stream.id) ? 'unprocessed' : 'unsent';
          if (this.#connected === undefined || stream.id === undefined) return 'resetBefore';
          return lost ? 'resetAfter' : 'cut';
        })();
        settle({
          id,
          outcome,
          ...(outcome === 'answered' ? {} : { error: error?.code ?? `stream closed with ${stream.rstCode}` }),
          port: this.#port,
          reused,
          started,
          ...(this.#connected === undefined ? {} : { connected: Math.max(this.#connected, started) }),
          ended: monotonic(),
          ...(outcome === 'answered' ? whoAnswered(body) : {}),
        });
      });
      stream.end();
    });
  }

  close(): void {
    this.#over = true;
    this.#session.destroy();
  }
}

function connectTo({ host, port, protocol }: Filled, localAddress: string | undefined): Socket {
  const target = { host, port, ...(localAddress === undefined ? {} : { localAddress }) };
  const socket =
    protocol === 'h2'
      ? connectTls({ ...target, ALPNProtocols: ['h2'], rejectUnauthorized: false })
      : connectTcp(target);
  return socket.setNoDelay(true);
}
