/** For how long a worker has not reacted, from what can be seen of it; and who is told when that is too long. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { Health, type HealthOptions, type Look, unresponsiveFor } from '../../lib/serve/health.js';
import type { WorkerProcess } from '../../lib/serve/worker-process.js';
import { until } from '../support/until.js';

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

describe('who watches over workers', () => {
  const STUCK_AFTER = 200;
  const HANG = 1000;
  /** Milliseconds between two looks, while anything turns and at rest, and between two reads of /proc. */
  const LOOK_EVERY = 50;
  const AT_REST = 1000;
  const PROC_EVERY = 500;
  /** Looks in a row without a turn after which it is at rest. */
  const QUIET_LOOKS = 20;
  /** Milliseconds until it is, from any moment on. */
  const TO_REST = (QUIET_LOOKS + 3) * LOOK_EVERY;

  /** A process that is stopped. */
  let stopped: ChildProcess;
  beforeAll(async () => {
    stopped = spawn('sleep', ['600'], { stdio: 'ignore' });
    stopped.kill('SIGSTOP');
    await until('it is stopped', () => / T /.test(readFileSync(`/proc/${stopped.pid}/stat`, 'latin1')));
  });
  afterAll(() => stopped.kill('SIGKILL'));

  /** The clocks of the process, in milliseconds: they stand still unless a test lets time pass. */
  let time: number;
  let health: Health | undefined;
  beforeEach(() => {
    time = 1_000_000;
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    vi.spyOn(performance, 'now').mockImplementation(() => time);
    vi.spyOn(process.hrtime, 'bigint').mockImplementation(() => BigInt(time) * 1_000_000n);
  });
  afterEach(() => {
    health?.close();
    vi.useRealTimers();
    vi.restoreAllMocks();
  });

  function pass(milliseconds: number): void {
    for (let passed = 0; passed < milliseconds; passed++) {
      time++;
      vi.advanceTimersByTime(1);
    }
  }

  /** A worker, as far as it is looked at: it waits since now, and is not stopped. */
  interface Watched {
    loop: { state: 'silent' | 'waiting' | 'running'; since: number } | undefined;
    pid: number;
    state: string;
    stuck: boolean;
    readyAt: number;
    readonly links: { hints: { read(): Watched['loop'] } } | undefined;
  }

  function worker(changes: Partial<Pick<Watched, 'loop' | 'pid' | 'state'>> = {}): Watched {
    return {
      loop: { state: 'waiting', since: time },
      pid: process.pid,
      state: 'running',
      stuck: false,
      readyAt: time - 1000,
      get links() {
        return this.loop && { hints: { read: () => this.loop } };
      },
      ...changes,
    };
  }

  const runs = () => ({ state: 'running', since: time }) as const;
  const waits = () => ({ state: 'waiting', since: time }) as const;

  /** Lets somebody watch, and collects what is told, with the milliseconds since now; and counts the looks. */
  function watch(workers: Watched[], options: Partial<HealthOptions> = {}) {
    const begin = time;
    const told: { at: number; stuck: boolean; why: string }[] = [];
    const hung: string[] = [];
    const looks: number[] = [];
    health = new Health({
      stuckAfter: STUCK_AFTER,
      hangTimeout: 0,
      workers: () => {
        looks.push(time - begin);
        return workers as unknown as WorkerProcess[];
      },
      hasQueue: () => false,
      changed: (_, stuck, why) => told.push({ at: time - begin, stuck, why }),
      hung: (_, why) => hung.push(why),
      ...options,
    });
    return { told, hung, looks };
  }

  test('tells once of a loop that is stuck, in time, and once that it turns again', () => {
    const one = worker({ loop: runs() });
    const { told } = watch([worker(), one]);
    pass(1000);
    expect(told).toMatchObject([{ stuck: true, why: 'its event loop is stuck' }]);
    expect(told[0]!.at).toBeGreaterThan(STUCK_AFTER);
    expect(told[0]!.at).toBeLessThanOrEqual(STUCK_AFTER + LOOK_EVERY);
    expect(one.stuck).toBe(true);
    one.loop = waits();
    pass(LOOK_EVERY);
    pass(1000);
    expect(told.slice(1)).toMatchObject([{ stuck: false }]);
    expect(told[1]!.at).toBeLessThanOrEqual(1000 + LOOK_EVERY);
    expect(one.stuck).toBe(false);
  });

  test('looks as often as a short limit takes', () => {
    const { told } = watch([worker({ loop: runs() })], { stuckAfter: 10 });
    pass(1000);
    expect(told).toHaveLength(1);
    expect(told[0]!.at).toBeLessThanOrEqual(15);
  });

  test('says nothing of turns that are short enough, one after another', () => {
    const one = worker();
    const { told } = watch([one]);
    for (let turn = 0; turn < 20; turn++) {
      one.loop = runs();
      pass(STUCK_AFTER);
    }
    expect(told).toEqual([]);
  });

  test.each([
    { what: 'tells once of a loop that hangs', hangTimeout: HANG, hung: ['its event loop is stuck for 1 s'] },
    { what: 'tells of no hang where 0 is the time of one', hangTimeout: 0, hung: [] },
  ])('$what', ({ hangTimeout, hung }) => {
    const found = watch([worker({ loop: runs() }), worker()], { hangTimeout });
    pass(HANG);
    expect(found.hung).toEqual([]);
    pass(5 * HANG);
    expect(found.hung).toEqual(hung);
  });

  test('judges nobody when it comes late itself', () => {
    const one = worker({ loop: runs() });
    const { told, looks } = watch([one]);
    // The process gets no processor: the clock goes on, and timers do not.
    time += 2 * STUCK_AFTER;
    pass(LOOK_EVERY);
    one.loop = waits();
    pass(1000);
    expect(told).toEqual([]);
    expect(looks.length).toBeGreaterThan(0);
  });

  test('does not ask a worker that has exited, whose page is gone', () => {
    const gone = worker({ state: 'exited' });
    Object.defineProperty(gone, 'links', {
      get: () => {
        throw new Error('the page of a worker that is gone was read');
      },
    });
    const { told, looks } = watch([gone, worker({ loop: runs() })]);
    pass(1000);
    expect(looks.length).toBeGreaterThan(5);
    expect(told).toHaveLength(1);
  });

  test('can be ended by who is told', () => {
    const { told, looks } = watch([worker({ loop: runs() })], {
      hangTimeout: HANG,
      hung: () => health?.close(),
    });
    pass(5 * HANG);
    expect(told).toHaveLength(1);
    expect(looks.at(-1)).toBeLessThanOrEqual(HANG + LOOK_EVERY);
  });

  test('goes on looking, and tells of the others, when who is told throws', () => {
    const [first, second] = [worker({ loop: runs() }), worker({ loop: runs() })];
    const told: Watched[] = [];
    const { looks } = watch([first, second], {
      changed: (who) => {
        told.push(who as unknown as Watched);
        if (told.length === 1) throw new Error('of who is told');
      },
    });
    // In a process whose owner goes on after an exception that nobody has caught.
    const thrown: unknown[] = [];
    for (let passed = 0; passed < 1000; passed++) {
      try {
        pass(1);
      } catch (error) {
        thrown.push(error);
      }
    }
    expect(thrown).toEqual([new Error('of who is told')]);
    expect(told).toEqual([first, second]);
    expect(looks.at(-1)).toBeGreaterThan(1000 - 2 * LOOK_EVERY);
  });

  describe('while nothing turns', () => {
    const resting = () => [worker(), worker({ loop: undefined })];

    /** Milliseconds between the looks. */
    const gapsOf = (looks: readonly number[]) => looks.slice(1).map((look, index) => look - looks[index]!);

    test('looks as before for 20 more times, and then once a second', () => {
      const { looks } = watch(resting());
      pass(TO_REST + 10 * AT_REST);
      const gaps = gapsOf(looks);
      const quiet = gaps.indexOf(AT_REST);
      expect(quiet).toBeGreaterThanOrEqual(QUIET_LOOKS);
      // The first look of all has nothing to compare with.
      expect(quiet).toBeLessThanOrEqual(QUIET_LOOKS + 1);
      expect(gaps.slice(0, quiet)).toEqual(new Array(quiet).fill(LOOK_EVERY));
      expect(gaps.length - quiet).toBeGreaterThanOrEqual(9);
      expect(gaps.slice(quiet)).toEqual(new Array(gaps.length - quiet).fill(AT_REST));
    });

    test('looks as before when there is a turn now and then', () => {
      const workers = resting();
      const { looks } = watch(workers);
      for (let turn = 0; turn < 10; turn++) {
        workers[0]!.loop = waits();
        pass((QUIET_LOOKS - 1) * LOOK_EVERY);
      }
      expect(new Set(gapsOf(looks))).toEqual(new Set([LOOK_EVERY]));
    });

    test('is not at rest while a turn goes on, or a worker is stuck', () => {
      const { looks, told } = watch([...resting(), worker({ loop: runs() })]);
      pass(TO_REST + 5 * AT_REST);
      expect(told).toMatchObject([{ stuck: true }]);
      expect(new Set(gapsOf(looks))).toEqual(new Set([LOOK_EVERY]));
    });

    test('that it came late once does not make it judge anybody, and soon it is at rest again', () => {
      const { told, looks } = watch(resting());
      pass(TO_REST);
      time += 5 * AT_REST;
      pass(AT_REST + TO_REST);
      const before = looks.length;
      pass(5 * AT_REST);
      expect(told).toEqual([]);
      expect(looks.length - before).toBe(5);
    });

    test('looks as often as before from the first look on that finds a turn', () => {
      const workers = resting();
      const { looks } = watch(workers);
      pass(TO_REST + 5 * AT_REST);
      const goOn = (milliseconds: number) => {
        for (let passed = 0; passed < milliseconds; passed += 10) {
          workers[0]!.loop = waits();
          pass(10);
        }
      };
      goOn(AT_REST);
      const before = looks.length;
      goOn(1000);
      expect(looks.length - before).toBe(1000 / LOOK_EVERY);
    });

    test('finds a loop that gets stuck then at the next look', () => {
      const workers = resting();
      const { told } = watch(workers);
      pass(TO_REST + 5 * AT_REST);
      workers[0]!.loop = runs();
      pass(AT_REST + STUCK_AFTER);
      expect(told).toMatchObject([{ stuck: true }]);
    });

    test('finds a process that was stopped then at the next look, and looks often until it goes on', () => {
      const [one] = resting() as [Watched];
      const { told } = watch([one]);
      pass(TO_REST + 5 * AT_REST);
      one.pid = stopped.pid!;
      pass(AT_REST + STUCK_AFTER + 1);
      expect(told).toMatchObject([{ stuck: true, why: 'its process is stopped' }]);
      // Its loop does nothing meanwhile, which is no rest.
      pass(TO_REST + AT_REST);
      one.pid = process.pid;
      pass(LOOK_EVERY);
      expect(told).toMatchObject([{ stuck: true }, { stuck: false }]);
    });
  });

  describe('of a process that is stopped', () => {
    const kinds = [
      { loops: 'a loop that waits', loop: () => waits() },
      { loops: 'a loop that is not seen', loop: () => undefined },
    ];
    /** From the stop on: until it is seen, and for as long as may be. */
    const soon = LOOK_EVERY + STUCK_AFTER + 1;
    const later = PROC_EVERY + LOOK_EVERY + STUCK_AFTER + 1;

    /** Watches one that is stopped, after a first look that finds it running. */
    function watchStopped(loop: Watched['loop'], hasQueue: boolean) {
      const one = worker({ loop });
      // Another one keeps the looks going.
      const busy = worker({ loop: { state: 'running', since: time } });
      const found = watch([one, busy], { hasQueue: (who) => hasQueue && who.pid === one.pid });
      const goOn = (milliseconds: number) => {
        for (let passed = 0; passed < milliseconds; passed++) {
          busy.loop = runs();
          pass(1);
        }
      };
      goOn(LOOK_EVERY + 10);
      one.pid = stopped.pid!;
      return { ...found, one, goOn, stoppedAt: LOOK_EVERY + 10 };
    }

    test.each(kinds)('with $loops tells, at once when something waits for it', ({ loop }) => {
      const { told, goOn, stoppedAt } = watchStopped(loop(), true);
      goOn(soon);
      expect(told).toMatchObject([{ stuck: true, why: 'its process is stopped' }]);
      expect(told[0]!.at).toBeGreaterThan(stoppedAt + STUCK_AFTER);
      goOn(1000);
      expect(told).toHaveLength(1);
    });

    test.each(kinds)('with $loops tells, half a second later when nothing waits for it', ({ loop }) => {
      const { told, goOn } = watchStopped(loop(), false);
      goOn(later);
      expect(told).toMatchObject([{ stuck: true, why: 'its process is stopped' }]);
      // Until the next reading of /proc nobody knows: that is what it saves.
      expect(told[0]!.at).toBeGreaterThan(PROC_EVERY + STUCK_AFTER);
    });

    test.each(kinds)('with $loops tells when it goes on, at the next look', ({ loop }) => {
      const { told, one, goOn } = watchStopped(loop(), false);
      goOn(1000);
      one.pid = process.pid;
      goOn(LOOK_EVERY);
      expect(told).toMatchObject([{ stuck: true }, { stuck: false }]);
      expect(one.stuck).toBe(false);
    });

    test('says nothing where it goes on soon enough', () => {
      const { told, one, goOn } = watchStopped(waits(), true);
      goOn(STUCK_AFTER - 20);
      one.pid = process.pid;
      goOn(1000);
      expect(told).toEqual([]);
    });

    test('says nothing where there is no such process', () => {
      const { told, one, goOn } = watchStopped(waits(), true);
      one.pid = 2 ** 30;
      goOn(1000);
      expect(told).toEqual([]);
    });

    test('says nothing after its end', () => {
      const { told, looks, goOn } = watchStopped(waits(), true);
      goOn(LOOK_EVERY);
      expect(told).toEqual([]);
      health?.close();
      const before = looks.length;
      goOn(5 * AT_REST);
      expect(told).toEqual([]);
      expect(looks.length).toBe(before);
    });
  });
});
