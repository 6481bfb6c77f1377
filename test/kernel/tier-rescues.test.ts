/**
 * What those are told who carry out rescues, when something cannot be done: as with the group itself, all is as before.
 */
import { fstatSync } from 'node:fs';
import { describe, expect, test, vi } from 'vitest';
import type { SocketGroup } from '../../lib/group/group.js';
import type { Rescues } from '../../lib/group/tier.js';
import { type NativeSelector, native } from '../../lib/native.js';
import { named } from '../support/named.js';
import { kernelParameter, ownNetwork, setKernelParameter } from '../support/network.js';
import { onlySlot, openDescriptors, queues, sum, useScene } from '../support/scene.js';
import { until } from '../support/until.js';

ownNetwork();
const scene = useScene();

/** Keeps what it is told as a master does, and has no descriptor left when it is told to. */
class Book implements Rescues {
  /** What orders at this moment: the kind of it, and its listeners by slot. */
  now: { by: 'ring' | 'order()'; listeners: Map<number, number> } | undefined;
  /** How many more descriptors there are. */
  room = Number.POSITIVE_INFINITY;
  #opened = 0;

  open(ring = -1): () => void {
    const own = ++this.#opened;
    this.now = undefined;
    this.#take();
    this.now = { by: ring < 0 ? 'order()' : 'ring', listeners: new Map() };
    return () => {
      if (own === this.#opened) this.now = undefined;
    };
  }

  order(): void {}

  placed(slot: number, fd: number): void {
    this.#take();
    this.now?.listeners.set(slot, fstatSync(fd).ino);
  }

  left(slot: number): void {
    this.now?.listeners.delete(slot);
  }

  #take(): void {
    if (this.room-- > 0) return;
    this.room = Number.POSITIVE_INFINITY;
    throw Object.assign(new Error('EMFILE: fcntl'), { code: 'EMFILE', errno: 24, syscall: 'fcntl' });
  }
}

type Selector = 'ebpf' | 'cbpf' | 'none';

async function open(selector: Selector) {
  const book = new Book();
  const group = await scene.open({
    selector,
    sockets: 3,
    backlog: 200,
    service: { rescues: book },
    onConnection: (fd) => scene.own(fd),
  });
  return { book, group };
}

/** What the book says when it knows the group as it is. */
function all(group: SocketGroup): Book['now'] {
  const listeners = new Map(group.slots.map((slot) => [slot, fstatSync(group.fd(slot)).ino]));
  return { by: group.getOption('selector') === 'ebpf' ? 'ring' : 'order()', listeners };
}

/** The kernel has no memory for a program of the classic kind. */
async function withoutMemory(act: () => void | Promise<void>): Promise<void> {
  const enough = kernelParameter('net.core.optmem_max');
  setKernelParameter('net.core.optmem_max', 1);
  try {
    await act();
  } finally {
    setKernelParameter('net.core.optmem_max', enough);
  }
}

/** The kernel's program is not told how many slots there are. */
async function withoutConfiguration(act: () => void | Promise<void>): Promise<void> {
  refuses = true;
  try {
    await act();
  } finally {
    refuses = false;
  }
}

let refuses = false;
const { Selector } = native();
class Refusing extends Selector {
  override setConfig(config: Parameters<NativeSelector['setConfig']>[0]): void {
    if (refuses) throw Object.assign(new Error('ENOMEM: bpf'), { code: 'ENOMEM', errno: 12, syscall: 'bpf' });
    super.setConfig(config);
  }
}
vi.spyOn(native(), 'Selector', 'get').mockReturnValue(Refusing as typeof Selector);

const FAILURES: {
  what: string;
  selector: Selector;
  during: (book: Book, act: () => void | Promise<void>) => Promise<void>;
}[] = [
  ...(['ebpf', 'cbpf', 'none'] as const).map((selector) => ({
    what: `${selector}: the rescues cannot keep it`,
    selector,
    during: async (book: Book, act: () => void | Promise<void>) => {
      book.room = 0;
      await act();
    },
  })),
  { what: 'cbpf: no program can name it', selector: 'cbpf', during: (_, act) => withoutMemory(act) },
  {
    what: 'ebpf: the program cannot be told',
    selector: 'ebpf',
    during: (_, act) => withoutConfiguration(act),
  },
];

describe.each(named(FAILURES, ({ what }) => `a listener that cannot be placed (${what})`))(
  '%s',
  (_, { selector, during }) => {
    test('leaves the one before in its slot, for the selector as for the rescues', async () => {
      const { book, group } = await open(selector);
      const before = openDescriptors().size;
      const slotOne = async (act: () => Promise<void>) =>
        selector === 'none' ? act() : onlySlot(group, 1, act);

      await slotOne(async () => {
        await during(book, async () => {
          await expect(group.replace(1)).rejects.toMatchObject({ code: 'ERR_SPILLWAY_LIMIT' });
        });
        expect(book.now).toEqual(all(group));
        expect(scene.connect(group, 40).established).toBe(40);
        if (selector !== 'none') expect(queues(group)).toEqual([0, 40, 0]);
      });
      expect(openDescriptors().size - before).toBe(40);

      await group.replace(1);
      expect(book.now).toEqual(all(group));
    });

    test('leaves an empty slot empty, and the others are where they were', async () => {
      const { book, group } = await open(selector);
      const before = openDescriptors().size;

      await during(book, async () => {
        await expect(group.add()).rejects.toMatchObject({ code: 'ERR_SPILLWAY_LIMIT' });
      });
      expect(group.slots).toEqual([0, 1, 2]);
      expect(book.now).toEqual(all(group));
      expect(openDescriptors().size).toBe(before);

      expect(await group.add()).toBe(3);
      expect(book.now).toEqual(all(group));
      expect(scene.connect(group, 40).established).toBe(40);
      if (selector !== 'none') {
        const already = queues(group)[3]!;
        await onlySlot(group, 3, () => scene.connect(group, 20));
        expect(queues(group)[3]).toBe(already + 20);
      }
    });
  },
);

describe('a change of selector that fails', () => {
  /** At which of them no descriptor is left. */
  const MOMENTS = [
    { room: 0, what: 'opening of the rescues' },
    { room: 3, what: 'last listener that they are told of' },
  ];
  const SELECTORS = ['ebpf', 'cbpf', 'none'] as const;
  const CHANGES = SELECTORS.flatMap((from) =>
    SELECTORS.filter((to) => to !== from).flatMap((to) => MOMENTS.map((moment) => ({ from, to, ...moment }))),
  );

  test.each(
    named(CHANGES, ({ from, to, what }) => `from ${from} to ${to}, at the ${what}, leaves ${from} with them`),
  )('%s', async (_, { from, to, room }) => {
    const { book, group } = await open(from);
    const before = openDescriptors().size;
    book.room = room;

    expect(() => group.setOption('selector', to)).toThrow(
      expect.objectContaining({ code: 'ERR_SPILLWAY_SELECTOR_UNAVAILABLE' }),
    );

    expect(group.getOption('selector')).toBe(from);
    expect(book.now).toEqual(all(group));
    // Handles of the event loop are closed at its next turn.
    await until('nothing is left of the other one', () => openDescriptors().size === before);
    expect(scene.connect(group, 60).established).toBe(60);
    expect(sum(queues(group))).toBe(60);
    if (from !== 'none') {
      const [already] = queues(group) as [number];
      await onlySlot(group, 0, () => scene.connect(group, 20));
      expect(queues(group)[0]).toBe(already + 20);
    }
    group.setOption('selector', to);
    expect(book.now).toEqual(all(group));
  });

  const WITHOUT_MEMORY: { from: Selector; code: string }[] = [
    { from: 'none', code: 'ERR_SPILLWAY_SELECTOR_UNAVAILABLE' },
    // Its sink takes memory of the same kind.
    { from: 'ebpf', code: 'ERR_SPILLWAY_LIMIT' },
  ];
  test.each(
    named(
      WITHOUT_MEMORY,
      ({ from }) => `from ${from} to cbpf, for want of memory, leaves ${from} with the rescues`,
    ),
  )('%s', async (_, { from, code }) => {
    const { book, group } = await open(from);
    await withoutMemory(() => {
      expect(() => group.setOption('selector', 'cbpf')).toThrow(expect.objectContaining({ code }));
    });
    expect(group.getOption('selector')).toBe(from);
    expect(book.now).toEqual(all(group));
    expect(scene.connect(group, 30).established).toBe(30);
    group.setOption('selector', 'cbpf');
    expect(book.now).toEqual(all(group));
  });
});
