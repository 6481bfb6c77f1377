/** Where the lines that workers write go: to our own output with the slot in front, or to files. */
import { extname, join } from 'node:path';
import type { Readable } from 'node:stream';
import type { Colors } from 'picocolors/types.js';
import { Destination, type Trouble } from './destination.js';
import { History } from './history.js';
import { LineSplitter } from './lines.js';
import type { LogPlaces } from './plan.js';
import { FileSink, isOneOutput, ownOutput } from './sinks.js';

/** The share of a CPU that reading a worker's stream may take while its lines are discarded anyway. */
const MOST_BUSY = 0.2;

/** Milliseconds that a worker may have to wait for us then, at a time. */
const LONGEST_PAUSE = 20;

type StreamName = 'stdout' | 'stderr';

/** What of a worker is read. */
export interface Speaker {
  readonly slot: number;
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
}

/** Somebody who is told, in sentences, when lines are lost. */
export interface OutputLog {
  warn(message: string): void;
  info(message: string): void;
}

/** The file of a worker's stream; undefined: our own output. */
export function logFileOf(
  places: LogPlaces,
  name: string,
  slot: number,
  stream: StreamName,
): string | undefined {
  const given = (stream === 'stdout' ? places.outFile : places.errorFile) ?? places.logFile;
  if (given !== undefined) return given === '/dev/null' ? given : withSlot(given, slot);
  if (places.logs === undefined) return undefined;
  return join(places.logs, `${name}-${slot}.${stream === 'stdout' ? 'out' : 'err'}.log`);
}

/** `out.log` becomes `out-0.log`: a file for each worker. */
function withSlot(path: string, slot: number): string {
  const extension = extname(path);
  return `${path.slice(0, path.length - extension.length)}-${slot}${extension}`;
}

/** Our own stdout and stderr; for a daemon, which has none, a file. */
export class OwnOutput {
  readonly stdout: Destination;
  readonly stderr: Destination;
  readonly #file: FileSink | undefined;

  /** @throws {SpillwayError} `ERR_SPILLWAY_LOGS` */
  constructor(file: string | undefined) {
    // Nothing could be told about it anywhere.
    const quiet: Trouble = { failed: () => {}, recovered: () => {} };
    this.#file = file === undefined ? undefined : new FileSink(file);
    this.stderr = new Destination(this.#file ?? ownOutput(2), quiet);
    this.stdout = this.#file || isOneOutput() ? this.stderr : new Destination(ownOutput(1), quiet);
  }

  /** Opens the file anew, if there is one; how many were. What cannot be opened stays as it is. */
  reopen(): number {
    try {
      this.#file?.reopen();
      return this.#file ? 1 : 0;
    } catch {
      return 0;
    }
  }

  async flush(patience: number): Promise<void> {
    await Promise.all([this.stdout.flush(patience), this.stderr.flush(patience)]);
  }

  close(): void {
    this.stdout.close();
    this.stderr.close();
  }
}

interface LogFile {
  sink: FileSink;
  destination: Destination;
}

export class Output {
  readonly history = new History();
  readonly #places: LogPlaces;
  readonly #name: string;
  readonly #own: OwnOutput;
  readonly #colours: Colors;
  readonly #log: OutputLog;
  readonly #files = new Map<string, LogFile>();
  /** Streams of workers that have not ended, and their ends. */
  readonly #reading = new Map<Readable, Promise<void>>();
  /** What could not be opened, and was told of. */
  readonly #unopened = new Set<string>();

  constructor(places: LogPlaces, name: string, own: OwnOutput, colours: Colors, log: OutputLog) {
    this.#places = places;
    this.#name = name;
    this.#own = own;
    this.#colours = colours;
    this.#log = log;
    own.stdout.onCongested = () => this.#tellCongested('the reader of stdout');
    own.stderr.onCongested = () =>
      this.#tellCongested(own.stdout === own.stderr ? 'the reader of the output' : 'the reader of stderr');
  }

  /**
   * Opens the files of the first slots, so that a folder that cannot be written ends the start.
   *
   * @throws {SpillwayError} `ERR_SPILLWAY_LOGS`
   */
  open(slots: number): void {
    for (let slot = 0; slot < slots; slot++) {
      for (const stream of ['stdout', 'stderr'] as const) {
        const path = logFileOf(this.#places, this.#name, slot, stream);
        if (path !== undefined) this.#file(path);
      }
    }
  }

  /** Reads a worker's output to its end. */
  listen(worker: Speaker): void {
    this.#read(worker.slot, 'stdout', worker.stdout);
    this.#read(worker.slot, 'stderr', worker.stderr);
  }

  get lostLines(): number {
    const files = [...this.#files.values()].map(({ destination }) => destination.lostLines);
    const own = new Set([this.#own.stdout, this.#own.stderr]);
    return [...files, ...[...own].map((each) => each.lostLines)].reduce((sum, each) => sum + each, 0);
  }

  /** Opens every log file anew; how many. What cannot be opened stays as it is, and is told of. */
  reopen(): number {
    let reopened = 0;
    for (const { sink } of this.#files.values()) {
      try {
        sink.reopen();
        reopened++;
      } catch (error) {
        this.#log.warn(`${(error as Error).message}; the former file stays in use`);
      }
    }
    return reopened;
  }

  /** To be called when the workers have ended: takes in what they said last, and writes what there is. */
  async close(patience: number): Promise<void> {
    // A process that a worker has left behind may hold a pipe open for ever.
    await atMost(patience, Promise.all(this.#reading.values()));
    const files = [...this.#files.values()];
    await Promise.all(files.map(({ destination }) => destination.flush(patience)));
    for (const { destination } of files) destination.close();
  }

  /** The same while the workers go on: what they say from now on is for somebody else to read. */
  async leave(patience: number): Promise<void> {
    for (const readable of this.#reading.keys()) {
      // What has been read already is given to whoever listens.
      while (readable.read() !== null);
      readable.destroy();
    }
    await this.close(patience);
  }

  #read(slot: number, stream: StreamName, readable: Readable | null): void {
    if (!readable) return;
    const prefix = Buffer.from(this.#prefix(slot));
    const splitter = new LineSplitter((line) => {
      this.history.add({ time: Date.now(), slot, stream, text: line.toString('utf8') });
      const destination = this.#destinationOf(slot, stream);
      const isOwn = destination === this.#own[stream];
      destination.write(Buffer.concat(isOwn ? [prefix, line, NEWLINE] : [line, NEWLINE]));
    });
    readable.on('data', (chunk: Buffer) => {
      const begin = performance.now();
      splitter.push(chunk);
      if (!this.#destinationOf(slot, stream).discards) return;
      const rest = (performance.now() - begin) * (1 / MOST_BUSY - 1);
      readable.pause();
      setTimeout(() => readable.resume(), Math.min(rest, LONGEST_PAUSE));
    });
    readable.on('error', () => {});
    const ended = new Promise<void>((resolve) => {
      readable.on('close', () => {
        splitter.end();
        this.#reading.delete(readable);
        resolve();
      });
    });
    this.#reading.set(readable, ended);
  }

  #destinationOf(slot: number, stream: StreamName): Destination {
    return this.#fileOf(slot, stream) ?? this.#own[stream];
  }

  #tellCongested(who: string): void {
    this.#log.warn(`${who} is too slow: lines are dropped, and workers that go on printing are slowed down`);
  }

  #prefix(slot: number): string {
    const { green, cyan, magenta, yellow, blue } = this.#colours;
    const paint = [green, cyan, magenta, yellow, blue][slot % 5] as (text: string) => string;
    return paint(`${slot} |`).concat(' ');
  }

  /** Undefined: our own output, also where the file of a slot that has come later cannot be opened. */
  #fileOf(slot: number, stream: StreamName): Destination | undefined {
    const path = logFileOf(this.#places, this.#name, slot, stream);
    if (path === undefined) return undefined;
    try {
      return this.#file(path).destination;
    } catch (error) {
      if (!this.#unopened.has(path))
        this.#log.warn(`${(error as Error).message}; the lines go to the master's own output`);
      this.#unopened.add(path);
      return undefined;
    }
  }

  #file(path: string): LogFile {
    const known = this.#files.get(path);
    if (known) return known;
    const sink = new FileSink(path);
    const destination = new Destination(sink, {
      failed: (error) =>
        this.#log.warn(`lines for ${path} are lost until it can be written again: ${error.message}`),
      recovered: (lost) => this.#log.info(`${path} can be written again; ${lost} lines were lost`),
    });
    destination.onCongested = () => this.#tellCongested(`what ${path} is written to`);
    const file = { sink, destination };
    this.#files.set(path, file);
    return file;
  }
}

const NEWLINE = Buffer.from('\n');

/** Waits, but not longer than so many milliseconds. */
async function atMost(patience: number, what: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, patience);
  });
  await Promise.race([what, late]);
  clearTimeout(timer);
}
