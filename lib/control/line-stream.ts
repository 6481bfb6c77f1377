/** Sends lines of output to a client as they come, and never more than it can take. */
import type { ServerResponse } from 'node:http';
import type { LineSource, LinesDropped, OutputLine } from './protocol.js';

/** Bytes that may wait for a slow client; further lines are counted and left out. */
const MOST_WAITING = 1024 * 1024;

export interface LineQuery {
  /** How many of the lines so far. */
  lines: number;
  /** Only of the worker in that slot. */
  slot: number | undefined;
  follow: boolean;
}

/** Resolves when everything has been sent, or the client has gone. */
export function streamLines(
  response: ServerResponse,
  source: LineSource,
  { lines, slot, follow }: LineQuery,
  closing: AbortSignal,
): Promise<undefined> {
  return new Promise((resolve) => {
    response.writeHead(200, { 'content-type': 'application/x-ndjson' });
    let dropped = 0;
    const say = (what: OutputLine | LinesDropped) => response.write(`${JSON.stringify(what)}\n`);
    const tellDropped = () => {
      if (dropped > 0) say({ dropped });
      dropped = 0;
    };
    const onLine = (line: OutputLine) => {
      if (slot !== undefined && line.slot !== slot) return;
      if (response.writableLength > MOST_WAITING) dropped++;
      else {
        tellDropped();
        say(line);
      }
    };
    for (const line of source.recent(lines, slot)) say(line);
    const unfollow = follow ? source.follow(onLine) : undefined;
    const end = () => response.end();
    response.on('drain', tellDropped);
    response.once('close', () => {
      closing.removeEventListener('abort', end);
      unfollow?.();
      resolve(undefined);
    });
    if (follow && !closing.aborted) {
      closing.addEventListener('abort', end);
      response.flushHeaders();
    } else end();
  });
}
