/** A client that shows what happens on its connection, byte by byte. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { until } from './until.js';

export class RawClient {
  readonly socket: Socket;
  text = '';
  /** How it ended: by the server's FIN, or by the code of an error such as ECONNRESET. */
  end: 'FIN' | (string & {}) | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (piece) => {
      this.text += piece;
    });
    socket.on('end', () => {
      this.end ??= 'FIN';
    });
    socket.on('error', ({ code }: NodeJS.ErrnoException) => {
      this.end ??= code ?? 'error';
    });
  }

  static async open(port: number, { tls = false } = {}): Promise<RawClient> {
    const socket = tls
      ? connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false })
      : connect({ port, host: '127.0.0.1', noDelay: true });
    const client = new RawClient(socket);
    await once(socket, tls ? 'secureConnect' : 'connect');
    return client;
  }

  get(path: string, headers = ''): void {
    this.socket.write(`GET ${path} HTTP/1.1\r\nHost: here\r\n${headers}\r\n`);
  }

  /** Waits until something has been received. */
  async sees(text: string): Promise<void> {
    await until(`"${text}" comes after ${JSON.stringify(this.text)} (${this.end})`, () =>
      this.text.includes(text),
    );
  }

  async ends(): Promise<string> {
    return until('the connection ends', () => this.end);
  }
}
