/** The master's own log. */
import { pino } from 'pino';
import { prettyFactory } from 'pino-pretty';

export type Log = pino.Logger;

export interface LogOptions {
  /** The service. */
  name: string;
  format: 'text' | 'json';
  colours: boolean;
  /** With the day: for what is kept. */
  dates: boolean;
  /** Takes one line with its newline. */
  write: (line: string) => void;
}

export function openLog({ name, format, colours, dates, write }: LogOptions): Log {
  const options = { name, base: { name, pid: process.pid } };
  if (format === 'json') return pino(options, { write });
  const pretty = prettyFactory({
    colorize: colours,
    translateTime: dates ? 'SYS:yyyy-mm-dd HH:MM:ss' : 'SYS:HH:MM:ss',
    // The sentence says it all; the fields are for programs.
    hideObject: true,
    ignore: 'pid,hostname,name',
  });
  return pino(options, { write: (line) => write(pretty(line) as string) });
}
