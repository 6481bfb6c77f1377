/** When a worker that has ended is started again. */
import { describe, expect, test } from 'vitest';
import { afterEnd } from '../../lib/serve/restarts.js';

const timing = { minUptime: 1000, restartDelay: 100, maxRestartDelay: 15_000, maxRestarts: 10 };

describe('after the end of a worker', () => {
  const CASES: {
    what: string;
    failures: number;
    uptime: number | undefined;
    verdict: ReturnType<typeof afterEnd>;
  }[] = [
    {
      what: 'one that lived long is followed at once',
      failures: 0,
      uptime: 1000,
      verdict: { failures: 0, delay: 0 },
    },
    {
      what: 'one that lived long makes up for failures',
      failures: 9,
      uptime: 5000,
      verdict: { failures: 0, delay: 0 },
    },
    {
      what: 'one that lived too short has failed',
      failures: 0,
      uptime: 999,
      verdict: { failures: 1, delay: 100 },
    },
    {
      what: 'one that was never ready has failed',
      failures: 0,
      uptime: undefined,
      verdict: { failures: 1, delay: 100 },
    },
    { what: 'the delay doubles', failures: 3, uptime: undefined, verdict: { failures: 4, delay: 800 } },
    {
      what: 'the delay ends somewhere',
      failures: 8,
      uptime: undefined,
      verdict: { failures: 9, delay: 15_000 },
    },
    {
      what: 'the last restart is still one',
      failures: 9,
      uptime: undefined,
      verdict: { failures: 10, delay: 15_000 },
    },
    {
      what: 'after it there is none',
      failures: 10,
      uptime: undefined,
      verdict: { failures: 11, giveUp: true },
    },
  ];

  for (const { what, failures, uptime, verdict } of CASES) {
    test(what, () => expect(afterEnd(failures, uptime, timing)).toEqual(verdict));
  }

  test('a delay stays a number however often it was doubled', () => {
    const verdict = afterEnd(5000, undefined, { ...timing, maxRestarts: 10_000 });
    expect(verdict).toEqual({ failures: 5001, delay: 15_000 });
  });

  test('no restarts allowed: the first failure is the last', () => {
    expect(afterEnd(0, 10, { ...timing, maxRestarts: 0 })).toEqual({ failures: 1, giveUp: true });
  });
});
