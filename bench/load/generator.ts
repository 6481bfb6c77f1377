/**
 * Runs the load generator (bench/native/load.cc): a process of its own, native, on a processor of its own where there
 * is one. This is the other end of what bench/native/plan.h describes.
 */
import { spawn } from 'node:child_process';
import { isIPv4 } from 'node:net';
import { endianness } from 'node:os';
import { SpillwayError } from '../../lib/errors.js';
import type { Arrivals, LoadOrder, Work } from './order.js';
import { benchProgram } from './program.js';
import { OUTCOMES, type Samples } from './samples.js';

/** How the generator comes before others on its processor; the order is that of bench/native/machine.h. */
const PRECEDENCES = ['none', 'nice', 'real-time'] as const;
type Precedence = (typeof PRECEDENCES)[number];

export interface LoadSamples extends Samples {
  /** When the load's time began, milliseconds of CLOCK_MONOTONIC, which process.hrtime() shows. */
  readonly startedAt: number;
  /** What the machine allowed. A closed load never asks for more than `nice`: it would starve its processor. */
  readonly precedence: Precedence;
}

/** The order is that of `Mode` in bench/native/plan.h. */
const MODES = ['connections', 'keep-alive', 'closed', 'hold'] as const satisfies readonly Work['mode'][];

const MAGIC = 0x31445753;
const MOST_REQUESTS = 10_000_000;
const MOST_CONNECTIONS = 65_536;
/** Bytes: what fits into an empty socket in one go, whatever its buffers are. */
const LONGEST_REQUEST = 4096;
const LONGEST_LOAD = 3_600_000;
/** Room for the records of a closed load is made ahead, for the most that a processor can do. */
const LONGEST_CLOSED_LOAD = 300_000;

/**
 * Sends what the order says, and resolves when every request has come to its end.
 *
 * @param signal ends the load, and all its connections, at once; rejects with the signal's reason then.
 * @param onStart is told, some milliseconds ahead, when the load's time begins: see `startedAt`.
 * @throws {RangeError} when the order asks for what the generator cannot do.
 * @throws {SpillwayError} `ERR_SPILLWAY_SYSTEM` when the generator is missing or fails.
 */
export async function runLoad(
  order: LoadOrder,
  signal?: AbortSignal,
  onStart?: (startedAt: number) => void,
): Promise<LoadSamples> {
  const plan = encodePlan(order);
  signal?.throwIfAborted();
  return decodeSamples(await runProgram(plan, signal, onStart));
}

const START_BYTES = 8;

function runProgram(
  plan: Buffer,
  signal?: AbortSignal,
  onStart?: (startedAt: number) => void,
): Promise<Buffer> {
  const child = spawn(benchProgram('spillway-bench-load'), [String(process.pid)], { stdio: 'pipe' });
  const pieces: Buffer[] = [];
  let bytes = 0;
  let errors = '';
  const abort = () => child.kill('SIGKILL');
  signal?.addEventListener('abort', abort, { once: true });
  child.stdout.on('data', (piece: Buffer) => {
    const before = bytes;
    pieces.push(piece);
    bytes += piece.length;
    if (before < START_BYTES && bytes >= START_BYTES) onStart?.(readStart(Buffer.concat(pieces)));
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  // A program that ends before it has read its plan says why on stderr.
  child.stdin.on('error', () => {});
  child.stdin.end(plan);
  return new Promise<Buffer>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, killedBy) => {
      if (signal?.aborted) reject(signal.reason);
      else if (code === 0) resolve(Buffer.concat(pieces));
      else reject(failed(errors.trim() || `it ended with ${code ?? killedBy}`));
    });
  }).finally(() => signal?.removeEventListener('abort', abort));
}

function failed(text: string): SpillwayError {
  return new SpillwayError('ERR_SPILLWAY_SYSTEM', `the load generator failed: ${text}`);
}

/** Collects numbers and texts in the byte order of this machine. */
class Encoder {
  readonly #pieces: Uint8Array[] = [];

  words(...values: readonly number[]): this {
    return this.column(Uint32Array.from(values));
  }

  numbers(...values: readonly number[]): this {
    return this.column(Float64Array.from(values));
  }

  text(text: string): this {
    const bytes = Buffer.from(text);
    return this.words(bytes.length).column(bytes);
  }

  column({ buffer, byteOffset, byteLength }: NodeJS.TypedArray): this {
    this.#pieces.push(new Uint8Array(buffer, byteOffset, byteLength));
    return this;
  }

  bytes(): Buffer {
    return Buffer.concat(this.#pieces);
  }
}

const NO_ARRIVALS: Arrivals = { at: new Float64Array(0), kind: new Uint8Array(0) };

function encodePlan(order: LoadOrder): Buffer {
  check(order);
  const { target, work, requests, sources, timeout } = order;
  const arrivals = work.mode === 'closed' ? NO_ARRIVALS : work.arrivals;
  const span = work.mode === 'closed' || work.mode === 'hold' ? work.milliseconds : 0;
  const concurrency =
    work.mode === 'closed' ? work.concurrency : work.mode === 'keep-alive' ? work.connections : 0;
  const encoder = new Encoder()
    .words(MAGIC, MODES.indexOf(work.mode), order.cpu ?? -1, ipv4Number(target.host), target.port)
    .numbers(timeout, span)
    .words(concurrency, work.mode === 'closed' ? work.kind : 0)
    .text(order.network ?? '')
    .words(requests.length);
  for (const request of requests) encoder.text(request);
  return encoder
    .words(sources.length, ...sources.map(ipv4Number), arrivals.at.length)
    .column(arrivals.at)
    .column(arrivals.kind)
    .bytes();
}

/** What the native side relies on; it checks only what could make it read beyond the plan. */
function check({ target, work, requests, timeout, sources, cpu }: LoadOrder): void {
  const kinds = requests.length;
  for (const address of [target.host, ...sources])
    if (!isIPv4(address)) throw new RangeError(`"${address}" is no numeric IPv4 address`);
  within('port', target.port, 1, 65_535);
  within('timeout', timeout, 1, LONGEST_LOAD, false);
  within('number of requests', kinds, 1, 256);
  for (const request of requests)
    within('length of a request', Buffer.byteLength(request), 1, LONGEST_REQUEST);
  if (cpu !== null) within('cpu', cpu, 0, 1023);
  if (work.mode === 'closed') {
    within('concurrency', work.concurrency, 1, MOST_CONNECTIONS);
    within('milliseconds', work.milliseconds, 1, LONGEST_CLOSED_LOAD, false);
    within('kind', work.kind, 0, kinds - 1);
    return;
  }
  if (work.mode === 'hold') within('milliseconds', work.milliseconds, 0, LONGEST_LOAD, false);
  if (work.mode === 'keep-alive') within('connections', work.connections, 1, MOST_CONNECTIONS);
  const { at, kind } = work.arrivals;
  within('number of arrivals', at.length, 0, MOST_REQUESTS);
  if (kind.length !== at.length) throw new RangeError(`${at.length} arrivals of ${kind.length} kinds`);
  let last = 0;
  for (const time of at) {
    if (!(time >= last && time <= LONGEST_LOAD))
      throw new RangeError(`an arrival at ${time} ms after one at ${last} ms`);
    last = time;
  }
  for (const each of kind) within('kind', each, 0, kinds - 1);
}

function within(what: string, value: number, least: number, most: number, whole = true): void {
  if (value >= least && value <= most && (!whole || Number.isInteger(value))) return;
  throw new RangeError(
    `${what}: ${value}, it must be ${whole ? 'a whole number ' : ''}from ${least} to ${most}`,
  );
}

function ipv4Number(address: string): number {
  return address.split('.').reduce((number, part) => number * 256 + Number(part), 0);
}

const LITTLE = endianness() === 'LE';

function readStart(bytes: Buffer): number {
  return Number(LITTLE ? bytes.readBigInt64LE() : bytes.readBigInt64BE()) / 1e6;
}

/** Takes values off the front. Columns are copied: nothing says that they lie where their type demands. */
class Decoder {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  word(): number {
    return new Uint32Array(this.slice(4))[0] as number;
  }

  numbers(count: number): Float64Array {
    return new Float64Array(this.slice(count * 8));
  }

  text(): string {
    return Buffer.from(this.slice(this.word())).toString('latin1');
  }

  slice(length: number): ArrayBuffer {
    const begin = this.#at;
    this.#at += length;
    if (this.#at > this.#bytes.length) throw failed('its output is incomplete');
    return Uint8Array.from(this.#bytes.subarray(begin, this.#at)).buffer;
  }

  get complete(): boolean {
    return this.#at === this.#bytes.length;
  }
}

function decodeSamples(bytes: Buffer): LoadSamples {
  const decoder = new Decoder(bytes);
  const startedAt = readStart(Buffer.from(decoder.slice(START_BYTES)));
  const count = decoder.word();
  const precedence = PRECEDENCES[decoder.word()] as Precedence;
  const generatorBusy = decoder.numbers(1)[0] as number;
  const workers = Array.from({ length: decoder.word() }, () => decoder.text());
  const samples = {
    count,
    startedAt,
    precedence,
    generatorBusy,
    workers,
    due: decoder.numbers(count),
    begun: decoder.numbers(count),
    connected: decoder.numbers(count),
    firstByte: decoder.numbers(count),
    ended: decoder.numbers(count),
    outcome: new Uint8Array(decoder.slice(count)),
    kind: new Uint8Array(decoder.slice(count)),
    worker: new Uint16Array(decoder.slice(count * 2)),
  };
  if (!decoder.complete || samples.outcome.some((outcome) => outcome >= OUTCOMES.length))
    throw failed('its output is not what was expected');
  return samples;
}
