/** Which streams a client has opened on the wire. */
import { expect, test } from 'vitest';
import { StreamsSent } from '../support/load/http2-wire.js';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
const DATA = 0;
const HEADERS = 1;
const SETTINGS = 4;

function frame(type: number, stream: number, length: number): Buffer {
  const bytes = Buffer.alloc(9 + length, HEADERS);
  bytes.writeUIntBE(length, 0, 3);
  bytes[3] = type;
  bytes[4] = 0;
  bytes.writeUInt32BE(stream, 5);
  return bytes;
}

const BYTES = Buffer.concat([
  PREFACE,
  frame(SETTINGS, 0, 12),
  frame(HEADERS, 1, 30),
  frame(DATA, 3, 300),
  frame(HEADERS, 5, 0),
]);

test('streams are known by their HEADERS, however the bytes are cut', () => {
  for (const size of [1, 2, 7, 100, BYTES.length]) {
    const sent = new StreamsSent();
    for (let at = 0; at < BYTES.length; at += size) sent.push(BYTES.subarray(at, at + size));
    expect([0, 1, 3, 5, 7].filter((id) => sent.has(id))).toEqual([1, 5]);
    expect(sent.has(undefined)).toBe(false);
  }
});

test('a stream whose HEADERS are not begun is not sent', () => {
  const sent = new StreamsSent();
  sent.push(BYTES.subarray(0, BYTES.length - 1));
  expect(sent.has(1)).toBe(true);
  expect(sent.has(5)).toBe(false);
});
