/** The requests of the control socket: from HTTP to what the master does. */
import type { ServerResponse } from 'node:http';
import { MAX_SLOTS } from '../group/layout.js';
import { streamLines } from './line-stream.js';
import { type Controlled, LINES, MOST_LINES, type ScaleTo, VERSION } from './protocol.js';

/** A request that makes no sense, with the HTTP status that says so. */
export class RequestError extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export interface Request {
  query: URLSearchParams;
  body: Record<string, unknown>;
  response: ServerResponse;
  /** The master ends: whatever goes on and on has to end. */
  closing: AbortSignal;
}

/** Gives the JSON value of the answer; undefined if it has answered by itself. */
export type Route = (request: Request) => Promise<unknown>;

/** By method and path. */
export function routes(master: Controlled): Map<string, Route> {
  return new Map<string, Route>([
    [`GET ${VERSION}/status`, () => master.status()],
    [
      `POST ${VERSION}/reload`,
      ({ body }) => {
        const { together, ...rest } = body;
        refuse(rest);
        if (together !== undefined && typeof together !== 'boolean') throw wrong('together', 'boolean');
        return master.reload({ together: together === true });
      },
    ],
    [`POST ${VERSION}/restart`, bare(() => master.restart())],
    [`POST ${VERSION}/scale`, ({ body }) => master.scale(scaleOf(body))],
    [`POST ${VERSION}/stop`, bare(() => master.stop())],
    [`POST ${VERSION}/upgrade`, bare(() => master.upgrade())],
    [`POST ${VERSION}/logs/reopen`, bare(() => master.reopen())],
    [
      `GET ${VERSION}/logs`,
      ({ query, response, closing }) => {
        const slot = integerIn(query, 'worker', 0, MAX_SLOTS - 1);
        const lines = integerIn(query, 'lines', 0, MOST_LINES) ?? LINES;
        const follow = isOn(query.get('follow'));
        return streamLines(response, master.lines, { lines, slot, follow }, closing);
      },
    ],
  ]);
}

/** A request that takes nothing. */
function bare(act: () => Promise<unknown>): Route {
  return ({ body }) => {
    refuse(body);
    return act();
  };
}

function isOn(text: string | null): boolean {
  return text !== null && text !== '0' && text !== 'false';
}

function scaleOf({ workers, by, ...rest }: Record<string, unknown>): ScaleTo {
  refuse(rest);
  if ((workers === undefined) === (by === undefined)) {
    throw new RequestError(400, 'one of workers and by must be given, and only one');
  }
  const [name, value] = workers === undefined ? ['by', by] : ['workers', workers];
  if (!Number.isInteger(value)) throw wrong(name as string, 'integer');
  return workers === undefined ? { by: value as number } : { workers: value as number };
}

function integerIn(query: URLSearchParams, name: string, least: number, most: number): number | undefined {
  const text = query.get(name);
  if (text === null) return undefined;
  const value = Number(text);
  if (text !== '' && Number.isInteger(value) && value >= least && value <= most) return value;
  throw wrong(name, `integer, ${least} to ${most}`);
}

function refuse(rest: Record<string, unknown>): void {
  const [name] = Object.keys(rest);
  if (name !== undefined) throw new RequestError(400, `there is no '${name}' in this request`);
}

function wrong(name: string, range: string): RequestError {
  return new RequestError(400, `${name} takes: ${range}`);
}
