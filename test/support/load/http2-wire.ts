/** What an HTTP/2 client really sends: which streams it has opened, as opposed to those it was asked to open. */
import { Duplex } from 'node:stream';

const PREFACE_LENGTH = 24;
const FRAME_HEAD = 9;
const HEADERS = 1;

/** Finds the streams that a client opens in what it sends (RFC 9113, sections 3.4 and 4.1). */
export class StreamsSent {
  #skip = PREFACE_LENGTH;
  #rest = Buffer.alloc(0);
  readonly #ids = new Set<number>();

  has(id: number | undefined): boolean {
    return id !== undefined && this.#ids.has(id);
  }

  push(chunk: Uint8Array): void {
    let data = Buffer.concat([this.#rest, chunk]);
    for (;;) {
      const skipped = Math.min(this.#skip, data.length);
      this.#skip -= skipped;
      data = data.subarray(skipped);
      if (this.#skip > 0 || data.length < FRAME_HEAD) break;
      if (data[3] === HEADERS) this.#ids.add(data.readUInt32BE(5));
      this.#skip = FRAME_HEAD + data.readUIntBE(0, 3);
    }
    this.#rest = data;
  }
}

/** The socket, with `sent` told of everything that is written to it. */
export function observed(socket: Duplex, sent: StreamsSent): Duplex {
  const face = new Duplex({
    read: () => socket.resume(),
    write(chunk: Buffer, _encoding, done) {
      sent.push(chunk);
      socket.write(chunk, () => done());
    },
    final: (done) => {
      socket.end(() => done());
    },
    destroy(error, done) {
      socket.destroy();
      done(error);
    },
  });
  socket.on('data', (chunk) => {
    if (!face.push(chunk)) socket.pause();
  });
  socket.on('end', () => face.push(null));
  socket.on('error', (error) => face.destroy(error));
  socket.on('close', () => face.destroy());
  return face;
}
