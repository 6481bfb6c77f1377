/** For how long a worker has not reacted, from what can be seen of it. */
import { describe, expect, test } from 'vitest';
import { type Look, unresponsiveFor } from '../../lib/serve/health.js';

const now = 10_000;
const readySince = 500;

describe('a worker', () => {
  const CASES: {
    what: string;
    look: Omit<Look, 'now' | 'readySince'> & { readySince?: number };
    time: number;
  }[] = [
    {
      what: 'that waits reacts, however long it has waited',
      look: { loop: { state: 'waiting', since: 1 }, stoppedSince: undefined },
      time: 0,
    },
    {
      what: 'whose loop has not turned yet is loading its program',
      look: { loop: { state: 'silent', since: 0 }, stoppedSince: undefined },
      time: 0,
    },
    {
      what: 'that runs has not reacted since its turn began',
      look: { loop: { state: 'running', since: 9400 }, stoppedSince: undefined },
      time: 600,
    },
    {
      what: 'whose turn began before it was ready was starting until then',
      look: { loop: { state: 'running', since: 9000 }, stoppedSince: undefined, readySince: 9950 },
      time: 50,
    },
    {
      what: 'that is stopped while it waits has not reacted since it was seen stopped',
      look: { loop: { state: 'waiting', since: 1 }, stoppedSince: 9900 },
      time: 100,
    },
    {
      what: 'that is stopped in a turn has not reacted since the turn began',
      look: { loop: { state: 'running', since: 9000 }, stoppedSince: 9900 },
      time: 1000,
    },
    {
      what: 'without a loop that can be seen may be stopped',
      look: { loop: undefined, stoppedSince: 9000 },
      time: 1000,
    },
    {
      what: 'without a loop that can be seen reacts, as far as is known',
      look: { loop: undefined, stoppedSince: undefined },
      time: 0,
    },
    {
      what: 'whose turn seems to begin in the future reacts',
      look: { loop: { state: 'running', since: 10_003 }, stoppedSince: undefined },
      time: 0,
    },
  ];

  for (const { what, look, time } of CASES) {
    test(what, () => expect(unresponsiveFor({ readySince, ...look, now })).toBe(time));
  }
});
