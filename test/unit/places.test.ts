/** Which slots are placed on which CPU. */
import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../bench/load/random.js';
import { MAX_CPUS } from '../../lib/group/layout.js';
import { buildPlaces } from '../../lib/group/places.js';

type Members = Parameters<typeof buildPlaces>[0];

const on = (cpu: number) => ({ cpu, enabled: true });
const disabled = (cpu: number) => ({ cpu, enabled: false });
/** On no CPU in particular. */
const anywhere = on(-1);

/** The slots of every CPU that has any, as the kernel's program finds them. */
function slotsByCpu(members: Members): Record<number, number[]> {
  const [cpus, slots] = buildPlaces(members);
  expect(cpus).toHaveLength(2 * MAX_CPUS);
  const parts = Array.from({ length: MAX_CPUS }, (_, cpu) => ({
    cpu,
    first: cpus[2 * cpu]!,
    count: cpus[2 * cpu + 1]!,
  }));
  expect(
    parts.filter(({ first, count }) => first + count > slots.length),
    'parts end within the list',
  ).toEqual([]);
  return Object.fromEntries(
    parts
      .filter(({ count }) => count > 0)
      .map(({ cpu, first, count }) => [cpu, [...slots.subarray(first, first + count)]]),
  );
}

describe('the slots of a CPU', () => {
  const CASES: { what: string; members: Members; places: Record<number, number[]> }[] = [
    { what: 'are none where there are no members', members: [], places: {} },
    { what: 'are none where nobody is placed', members: [anywhere, undefined, disabled(-1)], places: {} },
    { what: 'are the one that is placed there', members: [on(3)], places: { 3: [0] } },
    {
      what: 'are all that are placed there',
      members: [on(0), on(1), on(0), on(1), on(0)],
      places: { 0: [0, 2, 4], 1: [1, 3] },
    },
    {
      what: 'are in the order of slots, whatever the order of CPUs',
      members: [on(7), on(2), on(7), on(0), on(2), on(7)],
      places: { 0: [3], 2: [1, 4], 7: [0, 2, 5] },
    },
    {
      what: 'are in the order of numbers, not of digits',
      members: [...Array(9).fill(undefined), on(10), on(9), on(10), ...Array(90).fill(undefined), on(9)],
      places: { 9: [10, 102], 10: [9, 11] },
    },
    {
      what: 'leave out who is disabled',
      members: [on(1), disabled(1), on(1), disabled(0)],
      places: { 1: [0, 2] },
    },
    {
      what: 'leave out who is on no CPU in particular',
      members: [anywhere, on(1), anywhere, on(1)],
      places: { 1: [1, 3] },
    },
    {
      what: 'leave out slots without anybody',
      members: [undefined, on(1), undefined, on(1), undefined],
      places: { 1: [1, 3] },
    },
    {
      what: 'may be those of the first and the last CPU there is',
      members: [on(MAX_CPUS - 1), on(0)],
      places: { 0: [1], [MAX_CPUS - 1]: [0] },
    },
  ];

  test.each(CASES)('$what', ({ members, places }) => {
    expect(slotsByCpu(members)).toEqual(places);
  });

  test('are told by where a part begins and how long it is, parts one after another', () => {
    const [cpus, slots] = buildPlaces([on(2), on(0), on(2), on(5)]);
    expect([...slots]).toEqual([1, 0, 2, 3]);
    expect([...cpus.subarray(0, 12)]).toEqual([0, 1, 0, 0, 1, 2, 0, 0, 0, 0, 3, 1]);
  });

  test('are found for any members: each that is placed and enabled once, and nobody else', () => {
    const random = seededRandom(1);
    for (let round = 0; round < 30; round++) {
      const members = Array.from({ length: random.between(0, 200) }, () =>
        random.between(0, 9) === 0
          ? undefined
          : { cpu: random.between(-1, 12), enabled: random.between(0, 3) > 0 },
      );
      const places: Record<number, number[]> = {};
      for (const [slot, member] of members.entries()) {
        if (!member?.enabled || member.cpu < 0) continue;
        places[member.cpu] = [...(places[member.cpu] ?? []), slot];
      }
      expect(slotsByCpu(members), `round ${round}`).toEqual(places);
      expect(buildPlaces(members)[1].length).toBe(Object.values(places).flat().length);
    }
  });
});
