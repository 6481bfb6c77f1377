/** The load's reader of responses: whole, in pieces, and wrong. */
import { describe, expect, test } from 'vitest';
import { type Response, ResponseReader } from '../support/load/http1.js';

const HEAD = 'HTTP/1.1 200 OK\r\n';

const WHOLE: readonly { text: string; means: string; body: string; status?: number; last?: boolean }[] = [
  { means: 'a body of a told length', text: `${HEAD}Content-Length: 3\r\n\r\nabc`, body: 'abc' },
  { means: 'no body at all', text: `${HEAD}Content-Length: 0\r\n\r\n`, body: '' },
  { means: 'a length in bytes, not characters', text: `${HEAD}content-length: 2\r\n\r\né`, body: 'é' },
  {
    means: 'chunks',
    text: `${HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n`,
    body: 'abc0123456789',
  },
  {
    means: 'chunks with trailer fields',
    text: `${HEAD}Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\nZ: w\r\n\r\n`,
    body: 'a',
  },
  { means: 'a status that has no body', text: 'HTTP/1.1 204 No Content\r\n\r\n', body: '', status: 204 },
  {
    means: 'interim responses before it',
    text: `HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n${HEAD}Content-Length: 1\r\n\r\na`,
    body: 'a',
  },
  {
    means: 'a connection that ends',
    text: `${HEAD}Connection: Keep-Alive, Close\r\nContent-Length: 1\r\n\r\na`,
    body: 'a',
    last: true,
  },
  { means: 'HTTP/1.0', text: 'HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na', body: 'a', last: true },
  {
    means: 'HTTP/1.0 that goes on',
    text: 'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na',
    body: 'a',
  },
];

describe('the response reader', () => {
  for (const { means, text, body, status = 200, last = false } of WHOLE) {
    test(`understands ${means}, in one piece and byte by byte, twice in a row`, () => {
      const bytes = Buffer.from(text);
      const reader = new ResponseReader();
      const inPieces = () => {
        let response: Response | undefined;
        for (const [at, byte] of bytes.entries()) {
          expect(response, `before byte ${at}`).toBeUndefined();
          response = reader.push(Uint8Array.of(byte));
        }
        return response;
      };
      for (const response of [inPieces(), reader.push(bytes), inPieces()]) {
        expect(response).toMatchObject({ status, body, last });
        expect(reader.untouched).toBe(true);
      }
    });
  }

  test('takes a body without a length as whole when the connection ends, and not before', () => {
    const reader = new ResponseReader();
    expect(reader.push(Buffer.from(`${HEAD}\r\nall of`))).toBeUndefined();
    expect(reader.push(Buffer.from(' it'))).toBeUndefined();
    expect(reader.end()).toMatchObject({ status: 200, body: 'all of it', last: true });
  });

  test('does not take a part for the whole when the connection ends', () => {
    for (const text of [
      'HTTP/1.1 20',
      `${HEAD}Content-Length: 3\r\n\r\nab`,
      `${HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`,
    ]) {
      const reader = new ResponseReader();
      expect(reader.push(Buffer.from(text)), text).toBeUndefined();
      expect(reader.end(), text).toBeUndefined();
      expect(reader.untouched, text).toBe(false);
    }
  });

  test('refuses what is no response', () => {
    for (const text of [
      'SSH-2.0',
      'HTTP/1.1 OK\r\n\r\n',
      `${HEAD}no colon\r\n\r\n`,
      `${HEAD}Content-Length: 3x\r\n\r\nabc`,
      `${HEAD}Transfer-Encoding: chunked\r\n\r\nxyz\r\n`,
    ]) {
      expect(() => new ResponseReader().push(Buffer.from(text)), text).toThrow(/^not /);
    }
  });
});
