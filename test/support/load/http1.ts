/** Reads the responses of one HTTP/1 connection (RFC 9112), as far as a load client for our own servers needs it. */

export interface Response {
  status: number;
  /** Names in lower case; of repeated ones the last. */
  headers: ReadonlyMap<string, string>;
  body: string;
  /** Whether the connection cannot carry another request. */
  last: boolean;
}

const HEAD_END = '\r\n\r\n';
const LINE_END = '\r\n';

/** Responses without a body, whatever their headers say (RFC 9110, section 6.4.1). */
const WITHOUT_BODY = [204, 304];

/** Feed it what arrives; it never waits. One response at a time: requests are not pipelined. */
export class ResponseReader {
  #received = Buffer.alloc(0);

  /** Whether nothing of the next response has come yet. */
  get untouched(): boolean {
    return this.#received.length === 0;
  }

  /**
   * @returns the response, once it is whole.
   * @throws {Error} for what is no response.
   */
  push(chunk: Uint8Array): Response | undefined {
    this.#received = Buffer.concat([this.#received, chunk]);
    return this.#take(false);
  }

  /** The connection has ended in good order: that makes a response whole whose length is not told. */
  end(): Response | undefined {
    return this.#take(true);
  }

  #take(ended: boolean): Response | undefined {
    for (;;) {
      const headEnd = this.#received.indexOf(HEAD_END);
      if (headEnd < 0) {
        const start = this.#received.toString('latin1', 0, 5);
        if (!'HTTP/'.startsWith(start)) throw new Error(`not a response: ${start}`);
        return undefined;
      }
      const head = readHead(this.#received.toString('latin1', 0, headEnd));
      const rest = this.#received.subarray(headEnd + HEAD_END.length);
      // An interim response precedes the one that counts.
      if (head.status >= 100 && head.status < 200 && head.status !== 101) {
        this.#received = rest;
        continue;
      }
      const body = readBody(head, rest, ended);
      if (!body) return undefined;
      this.#received = rest.subarray(body.used);
      return { ...head, body: body.text, last: head.last || body.last };
    }
  }
}

interface Head {
  status: number;
  headers: Map<string, string>;
  last: boolean;
}

function readHead(text: string): Head {
  const [statusLine = '', ...lines] = text.split(LINE_END);
  const [, minor, status] = /^HTTP\/1\.(\d) (\d{3})/.exec(statusLine) ?? [];
  if (status === undefined) throw new Error(`not a status line: ${statusLine}`);
  const headers = new Map<string, string>();
  for (const line of lines) {
    const colon = line.indexOf(':');
    if (colon < 1) throw new Error(`not a header: ${line}`);
    headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim());
  }
  const options = (headers.get('connection') ?? '').toLowerCase().split(/\s*,\s*/);
  const last = options.includes('close') || (minor === '0' && !options.includes('keep-alive'));
  return { status: Number(status), headers, last };
}

function readBody(
  { status, headers }: Head,
  rest: Buffer,
  ended: boolean,
): { text: string; used: number; last: boolean } | undefined {
  if (WITHOUT_BODY.includes(status)) return { text: '', used: 0, last: false };
  if (/\bchunked$/i.test(headers.get('transfer-encoding') ?? '')) return readChunks(rest);
  const told = headers.get('content-length');
  if (told === undefined) return ended ? { text: rest.toString(), used: rest.length, last: true } : undefined;
  const length = Number(told);
  if (!/^\d+$/.test(told)) throw new Error(`not a length: ${told}`);
  if (rest.length < length) return undefined;
  return { text: rest.toString('utf8', 0, length), used: length, last: false };
}

function readChunks(rest: Buffer): { text: string; used: number; last: boolean } | undefined {
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const lineEnd = rest.indexOf(LINE_END, at);
    if (lineEnd < 0) return undefined;
    const line = rest.toString('latin1', at, lineEnd);
    if (!/^[0-9a-f]+(;.*)?$/i.test(line)) throw new Error(`not the size of a chunk: ${line}`);
    const size = Number.parseInt(line, 16);
    const from = lineEnd + LINE_END.length;
    if (size === 0) {
      // Trailer fields, if any, and the empty line.
      const end = rest.indexOf(LINE_END, from) === from ? from : rest.indexOf(HEAD_END, from);
      if (end < 0) return undefined;
      const used = end === from ? end + LINE_END.length : end + HEAD_END.length;
      return { text: Buffer.concat(parts).toString(), used, last: false };
    }
    if (rest.length < from + size + LINE_END.length) return undefined;
    parts.push(rest.subarray(from, from + size));
    at = from + size + LINE_END.length;
  }
}
