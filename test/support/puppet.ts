import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { setKernelParameter } from './network.js';
import { until } from './until.js';

export type Flag = 'SYN' | 'ACK' | 'FIN' | 'RST';

/** A segment that the server sent. Numbers count from the initial sequence numbers of the two sides. */
export interface Segment {
  /** In the order FIN, SYN, RST, ACK, joined by `+`: `SYN+ACK`. */
  flags: string;
  seq: number;
  ack: number;
  text: string;
}

/** The same as puppet.py tells it. */
type HeardSegment = Omit<Segment, 'flags'> & { client: string; flags: Flag[] };

interface Reply {
  id: number;
  error?: string;
  sent?: number;
  answered?: number;
}

type Order = { do: string } & Record<string, unknown>;

/** Network part of the addresses that clients get when they name none, and the host number of the first. */
const CLIENT_NETWORK = { 4: '10.7.1.', 6: 'fd07::1:' };
const FIRST_CLIENT_PORT = 20_000;
const SCRIPT = fileURLToPath(new URL('puppet.py', import.meta.url));

/**
 * Hand-driven TCP clients behind a tun device (puppet.py). It is in the network namespace that the main thread was in
 * when it was started.
 */
export class Puppet {
  /** The server side's addresses at the near end of the device. */
  readonly address: Readonly<Record<4 | 6, string>>;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #waiting = new Map<number, { resolve(reply: Reply): void; reject(error: Error): void }>();
  readonly #clients = new Map<string, PuppetClient>();
  #lastId = 0;

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>, address: Record<4 | 6, string>) {
    this.#child = child;
    this.address = address;
  }

  static async start(): Promise<Puppet> {
    const child = spawn('/usr/bin/env', ['python3', SCRIPT], { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines = createInterface({ input: child.stdout });
    const first = await Promise.race([once(lines, 'line'), once(child, 'exit')]);
    if (typeof first[0] !== 'string') throw new Error('the puppet did not start');
    const puppet = new Puppet(child, JSON.parse(first[0]).ready);
    lines.on('line', (line) => puppet.#hear(JSON.parse(line)));
    child.on('exit', () => puppet.#fail(new Error('the puppet is gone')));
    // A command to a puppet that has just died is answered by its exit.
    child.stdin.on('error', () => {});
    return puppet;
  }

  /** A new client of `port`; without an address and port of its own it gets ones that nobody had before. */
  async client(options: {
    family?: 4 | 6;
    port: number;
    source?: string;
    sourcePort?: number;
  }): Promise<PuppetClient> {
    const family = options.family ?? 4;
    const number = this.#clients.size;
    const client = new PuppetClient(this, `client ${number}`);
    this.#clients.set(client.name, client);
    await this.order({
      do: 'open',
      client: client.name,
      family,
      source: options.source ?? `${CLIENT_NETWORK[family]}${1 + (number % 200)}`,
      sourcePort: options.sourcePort ?? FIRST_CLIENT_PORT + number,
      destination: this.address[family],
      port: options.port,
    });
    return client;
  }

  async clients(count: number, options: { family?: 4 | 6; port: number }): Promise<PuppetClient[]> {
    return Promise.all(Array.from({ length: count }, () => this.client(options)));
  }

  /**
   * Sends SYNs from ever new addresses and ports and never answers; resolves when `count` of them are out, or without
   * a count when {@link stopFlood} was called.
   */
  async flood(options: {
    family?: 4 | 6;
    port: number;
    count?: number;
  }): Promise<{ sent: number; answered: number }> {
    const family = options.family ?? 4;
    const reply = await this.order({
      do: 'flood',
      family,
      destination: this.address[family],
      port: options.port,
      ...(options.count === undefined ? {} : { count: options.count }),
    });
    return { sent: reply.sent!, answered: reply.answered! };
  }

  async stopFlood(): Promise<void> {
    await this.order({ do: 'stopFlood' });
  }

  /** One command of puppet.py. When it resolves, the kernel has processed what was sent. */
  order(order: Order): Promise<Reply> {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.stdin.write(`${JSON.stringify({ ...order, id })}\n`);
    });
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.stdin.end();
    await gone;
  }

  #hear(message: { segment?: HeardSegment } & Partial<Reply>): void {
    if (message.segment) {
      const { client, flags, ...rest } = message.segment;
      this.#clients.get(client)?.received.push({ ...rest, flags: flags.join('+') });
      return;
    }
    const waiting = this.#waiting.get(message.id!);
    this.#waiting.delete(message.id!);
    if (message.error) waiting?.reject(new Error(`puppet: ${message.error}`));
    else waiting?.resolve(message as Reply);
  }

  #fail(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }
}

/** One client of a {@link Puppet}. It sends only what a method is called for. */
export class PuppetClient {
  /** Everything the server sent to this client, in order. */
  readonly received: Segment[] = [];
  readonly name: string;
  readonly #puppet: Puppet;

  constructor(puppet: Puppet, name: string) {
    this.#puppet = puppet;
    this.name = name;
  }

  /** A SYN; with a text it is carried in the SYN, as TCP Fast Open does it (without a cookie). */
  syn(text = ''): Promise<void> {
    return this.#send(['SYN'], text);
  }

  /** Acknowledges everything received so far in order: after the SYN-ACK this ends the handshake. */
  ack(): Promise<void> {
    return this.#send(['ACK'], '');
  }

  data(text: string): Promise<void> {
    return this.#send(['ACK'], text);
  }

  fin(): Promise<void> {
    return this.#send(['FIN', 'ACK'], '');
  }

  rst(): Promise<void> {
    return this.#send(['RST', 'ACK'], '');
  }

  /** The last segment once more, as a retransmission. */
  async resend(): Promise<void> {
    await this.#puppet.order({ do: 'resend', client: this.name });
  }

  /** The first segment with exactly these flags that came, or comes; `ACK` stands for one that carries a text. */
  expect(flags: 'SYN+ACK' | 'RST' | 'RST+ACK' | 'ACK' | 'FIN+ACK'): Promise<Segment> {
    return until(`${this.name} received ${flags}`, () =>
      this.received.find((segment) => segment.flags === flags && (flags !== 'ACK' || segment.text !== '')),
    );
  }

  /** SYN, SYN-ACK, and the final ACK. */
  async connect(): Promise<void> {
    await this.syn();
    await this.expect('SYN+ACK');
    await this.ack();
  }

  get wasReset(): boolean {
    return this.received.some((segment) => segment.flags.includes('RST'));
  }

  async #send(flags: Flag[], text: string): Promise<void> {
    await this.#puppet.order({ do: 'send', client: this.name, flags, text });
  }
}

/** A puppet for all tests of the file, and SYN cookies as the kernel's default has them. */
export function usePuppet(started: (puppet: Puppet) => void): void {
  let puppet: Puppet;
  beforeAll(async () => {
    puppet = await Puppet.start();
    started(puppet);
  });
  afterAll(() => puppet.close());
  // When a listener has more half-open requests than its backlog.
  beforeEach(() => setKernelParameter('net.ipv4.tcp_syncookies', 1));
}
