/** Who is stuck, and who helps, from what user space sees in looks that follow each other. */
import { describe, expect, test } from 'vitest';
import { ClassicRescue, type RescueOrder, type SlotLook } from '../../lib/group/classic-rescue.js';

type Sight = readonly (SlotLook | undefined)[];

interface Step {
  /** What this look finds, by slot; undefined: everything is forgotten instead of a look. */
  sees?: Sight;
  /** Who is asked to help whom, in order; nobody by default. */
  orders?: RescueOrder[];
  /** Slots that are given nothing new; none by default. */
  avoid?: number[];
}

/** A worker whose loop has been waiting for events since then, after the turn of that number. */
const waiting = (since: number, queue = 0, turn = 0): SlotLook => ({
  queue,
  loop: { state: 'waiting', since, turn },
  helps: true,
});
/** A worker whose loop has been in a turn since then, the one of that number. */
const running = (since: number, queue = 0, turn = 0): SlotLook => ({
  queue,
  loop: { state: 'running', since, turn },
  helps: true,
});
/** A worker whose loop has not turned yet. */
const silent = (queue = 0): SlotLook => ({
  queue,
  loop: { state: 'silent', since: 0, turn: 0 },
  helps: true,
});
/** A program that does not tell what it does. */
const mute = (queue = 0): SlotLook => ({ queue, loop: undefined, helps: true });
const unable = (look: SlotLook): SlotLook => ({ ...look, helps: false });

const order = (from: number, to: number, queued: number): RescueOrder => ({ from, to, waiting: queued });

/** Steps for the looks from one number to another, both included. */
function looks(first: number, last: number, step: (look: number) => Step): Step[] {
  return Array.from({ length: last - first + 1 }, (_, index) => step(first + index));
}

const FORGET: Step = {};
const FOUR_FREE = Array<SlotLook>(4).fill(waiting(1));

/** Looks without anybody coming after which a slot is avoided. */
const PATIENCE = 5;

const CASES: { group: string; cases: { what: string; steps: Step[] }[] }[] = [
  {
    group: 'a worker that comes',
    cases: [
      {
        what: 'whose loop turns is never avoided or helped, however much waits',
        steps: looks(1, 30, (look) => ({ sees: [running(look, 10 + look), waiting(1)] })),
      },
      {
        what: 'that goes to wait within the millisecond of its turn has turned',
        steps: looks(1, 30, (look) => ({
          sees: [look % 2 ? running(1, 3) : waiting(1, 3), waiting(1)],
        })),
      },
      {
        what: 'that makes a turn and another within one millisecond has turned',
        steps: looks(1, 30, (look) => ({
          sees: [waiting(1, 3, look), running(1, 3, look), waiting(1)],
        })),
      },
      {
        what: 'whose turns begin to be counted anew has turned',
        steps: [
          { sees: [waiting(1, 3, 2 ** 14 - 1), waiting(1)] },
          ...looks(0, 10, (look) => ({ sees: [waiting(1, 3, look), waiting(1)] })),
        ],
      },
      {
        what: 'whose queue has been empty a look before has had no time yet',
        steps: looks(1, 30, (look) => ({ sees: [running(1, look % 2), waiting(1)] })),
      },
      {
        what: 'with nothing in its queue is nobody to be helped, and not avoided, whatever it does',
        steps: looks(1, 30, () => ({ sees: [running(1), waiting(1)] })),
      },
    ],
  },
  {
    group: 'a worker that does not come',
    cases: [
      {
        what: 'is not known at the first look',
        steps: [{ sees: [running(1, 3), waiting(1)] }],
      },
      {
        what: 'is helped once by who is free, when two looks find the same turn and a queue',
        steps: [
          { sees: [running(1, 3), waiting(1)] },
          { sees: [running(1, 3), waiting(1)], orders: [order(0, 1, 3)] },
          { sees: [running(1, 3), waiting(1)] },
        ],
      },
      {
        what: 'is helped as well when its queue grows, by as much as waits now',
        steps: [
          { sees: [running(1, 3), waiting(1)] },
          { sees: [running(1, 7), waiting(1)], orders: [order(0, 1, 7)] },
        ],
      },
      {
        what: 'is helped as long as anything waits, also when its queue shrinks: others may take from it',
        steps: [
          { sees: [running(1, 20), waiting(1)] },
          ...looks(2, PATIENCE, (look) => ({
            sees: [running(1, 21 - look), waiting(look)],
            orders: [order(0, 1, 21 - look)],
          })),
          ...looks(PATIENCE + 1, 20, (look) => ({
            sees: [running(1, 21 - look), waiting(look)],
            orders: [order(0, 1, 21 - look)],
            avoid: [0],
          })),
          { sees: [running(1), waiting(21)] },
          { sees: [running(1), waiting(22)] },
        ],
      },
      {
        what: 'is helped also when it has not begun to turn, or is stopped while it waits',
        steps: [
          {
            sees: [silent(2), waiting(1, 4), waiting(2), waiting(2)],
          },
          {
            sees: [silent(2), waiting(1, 4), waiting(2), waiting(2)],
            orders: [order(1, 2, 4), order(1, 3, 4)],
          },
        ],
      },
      {
        what: 'is avoided from the fifth look on, until it turns',
        steps: [
          ...looks(0, PATIENCE - 1, () => ({ sees: [running(1, 3)] })),
          ...looks(PATIENCE, PATIENCE + 20, () => ({ sees: [running(1, 3)], avoid: [0] })),
          { sees: [waiting(2, 3)] },
          { sees: [waiting(2, 3)] },
        ],
      },
      {
        what: 'is avoided until nothing waits there any more, and with the next that comes has all looks again',
        steps: [
          ...looks(0, PATIENCE - 1, () => ({ sees: [running(1, 3)] })),
          { sees: [running(1, 3)], avoid: [0] },
          { sees: [running(1, 1)], avoid: [0] },
          { sees: [running(1)] },
          ...looks(0, PATIENCE - 1, () => ({ sees: [running(1, 1)] })),
          { sees: [running(1, 1)], avoid: [0] },
        ],
      },
      {
        what: 'has all looks before it again after it has come once',
        steps: [
          ...looks(0, PATIENCE - 1, () => ({ sees: [running(1, 3)] })),
          ...looks(0, PATIENCE - 1, () => ({ sees: [running(2, 3)] })),
          { sees: [running(2, 3)], avoid: [0] },
        ],
      },
      {
        what: 'is avoided by itself: others are judged by what they do',
        steps: [
          ...looks(0, 2, (look) => ({ sees: [running(1, 3), running(look, 3), running(look, 3)] })),
          ...looks(3, PATIENCE - 1, (look) => ({ sees: [running(1, 3), running(look, 3), running(2, 3)] })),
          ...looks(PATIENCE, PATIENCE + 1, (look) => ({
            sees: [running(1, 3), running(look, 3), running(2, 3)],
            avoid: [0],
          })),
          { sees: [running(1, 3), running(100, 3), running(2, 3)], avoid: [0, 2] },
        ],
      },
    ],
  },
  {
    group: 'free workers',
    cases: [
      {
        what: 'go where most wait, one after another, as if each had taken one',
        steps: [
          { sees: [running(1, 2), running(1, 4), ...FOUR_FREE] },
          {
            sees: [running(1, 2), running(1, 4), ...FOUR_FREE],
            orders: [order(1, 2, 4), order(1, 3, 4), order(0, 4, 2), order(1, 5, 4)],
          },
        ],
      },
      {
        what: 'are never more than wait',
        steps: [
          { sees: [waiting(1), waiting(1), running(1, 2), waiting(1), waiting(1)] },
          {
            sees: [waiting(1), waiting(1), running(1, 2), waiting(1), waiting(1)],
            orders: [order(2, 0, 2), order(2, 1, 2)],
          },
          // The other two have not been asked yet, and nobody is known to have come.
          {
            sees: [waiting(1), waiting(1), running(1, 2), waiting(1), waiting(1)],
            orders: [order(2, 3, 2), order(2, 4, 2)],
          },
          { sees: [waiting(1), waiting(1), running(1, 2), waiting(1), waiting(1)] },
        ],
      },
      {
        what: 'are not those that may not help, run, load, have something waiting, or do not tell',
        steps: looks(1, 2, () => ({
          sees: [running(1, 3), unable(waiting(1)), running(2), silent(), mute(), undefined],
        })).concat([
          // Somebody has just connected to this one: it will be busy in a moment.
          { sees: [running(1, 3), unable(waiting(1)), waiting(3, 1), mute()] },
        ]),
      },
      {
        what: 'are not asked by anybody when nobody is stuck',
        steps: looks(1, 10, (look) => ({ sees: [waiting(1), waiting(look), running(look, 1)] })),
      },
    ],
  },
  {
    group: 'a worker that was asked',
    cases: [
      {
        what: 'and has turned since is free again',
        steps: [
          { sees: [running(1, 3), waiting(1)] },
          { sees: [running(1, 3), waiting(1)], orders: [order(0, 1, 3)] },
          { sees: [running(1, 2), waiting(5)], orders: [order(0, 1, 2)] },
          { sees: [running(1, 1), waiting(5)] },
          { sees: [running(1, 1), waiting(5, 0, 1)], orders: [order(0, 1, 1)] },
        ],
      },
      {
        what: 'and is at work is not asked again before it waits',
        steps: [
          { sees: [running(1, 3), waiting(1)] },
          { sees: [running(1, 3), waiting(1)], orders: [order(0, 1, 3)] },
          ...looks(3, 4, () => ({ sees: [running(1, 3), running(5)] })),
          { sees: [running(1, 3), waiting(5)], orders: [order(0, 1, 3)] },
        ],
      },
      {
        what: 'and has not turned is not asked again, and is avoided after five looks until it turns',
        steps: [
          { sees: [running(1, 9), waiting(1), running(1)] },
          { sees: [running(1, 9), waiting(1), running(1)], orders: [order(0, 1, 9)] },
          // Those that wait at the first one do not get fewer, so it comes to its end one look earlier.
          ...looks(3, 5, () => ({ sees: [running(1, 9), waiting(1), running(1)] })),
          { sees: [running(1, 9), waiting(1), running(1)], avoid: [0] },
          { sees: [running(1, 9), waiting(1), running(1)], avoid: [0, 1] },
          { sees: [running(1, 9), waiting(1), running(1)], avoid: [0, 1] },
          { sees: [running(1, 9), waiting(8), running(1)], orders: [order(0, 1, 9)], avoid: [0] },
        ],
      },
      {
        what: 'and has begun a turn in the same millisecond has come, however long that turn takes',
        steps: [
          { sees: [running(1, 1), waiting(1)] },
          { sees: [running(1, 1), waiting(1)], orders: [order(0, 1, 1)] },
          ...looks(3, 30, () => ({ sees: [running(2), running(1)] })),
        ],
      },
      {
        what: 'and has not turned is asked by nobody else either',
        steps: [
          { sees: [running(1, 1), waiting(1), running(1, 1)] },
          { sees: [running(1, 1), waiting(1), running(1, 1)], orders: [order(0, 1, 1)] },
          { sees: [running(2), waiting(1), running(1, 1)] },
          { sees: [running(2), waiting(1), running(1, 1)] },
        ],
      },
    ],
  },
  {
    group: 'programs that do not tell what their loops do',
    cases: [
      {
        what: 'are neither avoided nor helped nor asked, whatever waits there',
        steps: looks(1, 30, () => ({ sees: [mute(5), mute(), waiting(1)] })),
      },
      {
        what: 'or not yet, were not asked, whoever was in their slot before',
        steps: [
          { sees: [running(1, 3), waiting(1)] },
          { sees: [running(1, 3), waiting(1)], orders: [order(0, 1, 3)] },
          { sees: [running(2), mute()] },
          ...looks(0, 2 * PATIENCE, () => ({ sees: [running(2), waiting(9)] })),
        ],
      },
      {
        what: 'are known from the second look after they have begun to tell',
        steps: [
          ...looks(1, 10, () => ({ sees: [mute(5), waiting(1)] })),
          { sees: [running(1, 5), waiting(1)] },
          { sees: [running(1, 5), waiting(1)], orders: [order(0, 1, 5)] },
        ],
      },
    ],
  },
  {
    group: 'slots without anybody',
    cases: [
      {
        what: 'are passed by',
        steps: [
          { sees: [undefined, running(1, 3), undefined, waiting(1)] },
          { sees: [undefined, running(1, 3), undefined, waiting(1)], orders: [order(1, 3, 3)] },
        ],
      },
      {
        what: 'are not avoided any more, and who comes there later is looked at anew',
        steps: [
          ...looks(0, PATIENCE - 1, () => ({ sees: [running(1, 3), undefined] })),
          { sees: [running(1, 3), undefined], avoid: [0] },
          { sees: [undefined, undefined] },
          ...looks(0, PATIENCE - 1, () => ({ sees: [running(1, 3), undefined] })),
          { sees: [running(1, 3), undefined], avoid: [0] },
        ],
      },
      {
        what: 'are forgotten: who comes after one that was asked was not asked itself',
        steps: [
          { sees: [running(1, 3), waiting(1)] },
          { sees: [running(1, 3), waiting(1)], orders: [order(0, 1, 3)] },
          { sees: [running(2), undefined] },
          ...looks(0, 2 * PATIENCE, () => ({ sees: [running(2), waiting(9)] })),
          { sees: [running(2, 3), waiting(9)] },
          { sees: [running(2, 3), waiting(9)], orders: [order(0, 1, 3)] },
        ],
      },
      {
        what: 'may come to be behind the others, or go from there',
        steps: [
          { sees: [running(1, 3)] },
          { sees: [running(1, 3), waiting(1)], orders: [order(0, 1, 3)] },
          { sees: [running(1, 3)] },
          { sees: [] },
        ],
      },
    ],
  },
  {
    group: 'after a pause',
    cases: [
      {
        what: 'one look is not enough again',
        steps: [
          { sees: [running(1, 3), waiting(1)] },
          FORGET,
          { sees: [running(1, 3), waiting(1)] },
          { sees: [running(1, 3), waiting(1)], orders: [order(0, 1, 3)] },
        ],
      },
      {
        what: 'nobody is avoided, and all looks have to be made again',
        steps: [
          ...looks(0, PATIENCE - 1, () => ({ sees: [running(1, 3)] })),
          { sees: [running(1, 3)], avoid: [0] },
          FORGET,
          ...looks(0, PATIENCE - 1, () => ({ sees: [running(1, 3)] })),
          { sees: [running(1, 3)], avoid: [0] },
        ],
      },
      {
        what: 'slots that are no more are not avoided either',
        steps: [
          ...looks(0, PATIENCE - 1, () => ({ sees: [running(2), running(1, 3)] })),
          { sees: [running(2), running(1, 3)], avoid: [1] },
          FORGET,
          { sees: [running(2)] },
        ],
      },
      {
        what: 'who was asked before can be asked again',
        steps: [
          { sees: [running(1, 3), waiting(1)] },
          { sees: [running(1, 3), waiting(1)], orders: [order(0, 1, 3)] },
          FORGET,
          { sees: [running(1, 3), waiting(1)] },
          { sees: [running(1, 3), waiting(1)], orders: [order(0, 1, 3)] },
        ],
      },
    ],
  },
];

describe.each(CASES)('$group', ({ cases }) => {
  test.each(cases)('$what', ({ steps }) => {
    const rescue = new ClassicRescue();
    for (const [number, { sees, orders = [], avoid = [] }] of steps.entries()) {
      if (!sees) {
        rescue.forget();
        continue;
      }
      const found = rescue.look(sees);
      expect({ orders: found.orders, avoid: [...found.avoid].sort() }, `step ${number + 1}`).toEqual({
        orders,
        avoid,
      });
    }
  });
});

test('what was found once does not change with the next look', () => {
  const rescue = new ClassicRescue();
  for (let look = 0; look < PATIENCE; look++) rescue.look([running(1, 3)]);
  const { avoid } = rescue.look([running(1, 3)]);
  rescue.look([running(2, 3)]);
  expect([...avoid]).toEqual([0]);
});
