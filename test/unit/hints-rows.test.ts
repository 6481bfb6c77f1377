/** The pages in which workers note what they do: in rows of one map as long as there are any, else without. */
import { ftruncateSync, mkdtempSync, openSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { missingCapabilities } from '../../lib/group/capability.js';
import { type NativeHints, native } from '../../lib/native.js';
import { type HintsPage, HintsRows } from '../../lib/serve/hints-rows.js';
import { until } from '../support/until.js';

const SILENT = { state: 'silent', since: 0, turn: 0 };
const PAGE = 4096;

const cleanUps: (() => unknown)[] = [];
afterEach(() => {
  for (const cleanUp of cleanUps.splice(0).reverse()) cleanUp();
  vi.restoreAllMocks();
});

function open(rows: number): HintsRows {
  const all = new HintsRows(rows);
  cleanUps.push(() => all.close());
  return all;
}

function take(rows: HintsRows): HintsPage {
  const page = rows.take();
  cleanUps.push(() => page.close());
  return page;
}

const takeAll = (rows: HintsRows, count: number) => Array.from({ length: count }, () => take(rows));

/** Another view of a page, as its worker has it. */
function view({ fd }: HintsPage): NativeHints {
  const hints = new (native().Hints)('map', fd);
  cleanUps.push(() => hints.close());
  return hints;
}

/** A worker notes turns on the page, and stops when the first has been seen there. */
async function note(page: HintsPage): Promise<void> {
  const worker = view(page);
  worker.beat();
  await until('a turn is read', () => page.read().state !== 'silent');
  worker.close();
}

const descriptors = () => readdirSync('/proc/self/fd').length;

function isOpen(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) !== '';
  } catch {
    return false;
  }
}

/** A file in place of the kernel's map, which needs a privilege: pages of files are mapped in the same way. */
function aFile(): number {
  const folder = mkdtempSync(join(tmpdir(), 'spillway-'));
  const fd = openSync(join(folder, 'map'), 'w+');
  rmSync(folder, { recursive: true });
  ftruncateSync(fd, PAGE);
  return fd;
}

function standIn(): void {
  vi.spyOn(native(), 'createHintsMap').mockImplementation(aFile);
  vi.spyOn(native(), 'openHintsPage').mockImplementation(aFile);
  vi.spyOn(native(), 'clearHintsPage').mockImplementation(() => {});
}

const missing = missingCapabilities(['CAP_BPF']);

describe.each([
  { where: 'of the kernel', stands: () => {}, skipped: missing.length > 0 && `: needs ${missing}` },
  {
    where: 'whose pages are files',
    stands: standIn,
    skipped: false,
  },
])('with a map $where', ({ where, stands, skipped }) => {
  describe.skipIf(skipped)(`rows${skipped || ''}`, () => {
    test('are taken one after another, each with a descriptor of its own', () => {
      stands();
      const rows = open(3);
      expect(rows.map).toBeGreaterThan(2);
      const pages = takeAll(rows, 3);
      expect(pages).toMatchObject([0, 1, 2].map((row) => ({ row, inKernel: true })));
      expect(new Set([rows.map, ...pages.map(({ fd }) => fd)]).size).toBe(4);
    });

    test('are each read by whoever has them mapped, and tell nothing of the others', async () => {
      stands();
      const pages = takeAll(open(3), 3);
      await note(pages[1]!);
      expect(pages[1]!.read().state).not.toBe('silent');
      expect(view(pages[1]!).read()).toEqual(pages[1]!.read());
      for (const other of [pages[0]!, pages[2]!]) {
        expect(other.read()).toEqual(SILENT);
        expect(view(other).read()).toEqual(SILENT);
      }
    });

    test('are given back, and have nothing left of their worker for the next one', async () => {
      stands();
      const rows = open(3);
      const [, left] = takeAll(rows, 3);
      await note(left!);
      left!.close();
      const next = take(rows);
      expect(next).toMatchObject({ row: 1, inKernel: true });
      expect(next.read()).toEqual(SILENT);
      await note(next);
      expect(left!.read()).toEqual(SILENT);
    });

    test('are given back once, however often they are closed', () => {
      stands();
      const rows = open(2);
      const [first] = takeAll(rows, 2);
      first!.close();
      first!.close();
      expect(take(rows)).toMatchObject({ row: 0, inKernel: true });
      first!.close();
      expect(take(rows).inKernel).toBe(false);
    });

    test('run out: who comes then has a page of its own, and a row again when one is given back', async () => {
      stands();
      const rows = open(2);
      const [, second] = takeAll(rows, 2);
      const own = take(rows);
      expect(own).toMatchObject({ row: 0, inKernel: false });
      await note(own);
      expect(view(own).read()).toEqual(own.read());
      expect(second!.read()).toEqual(SILENT);
      second!.close();
      expect(take(rows)).toMatchObject({ row: 1, inKernel: true });
      own.close();
      expect(take(rows).inKernel).toBe(false);
    });

    test('go on being read when the map is closed, after which nobody gets one', async () => {
      stands();
      const before = descriptors();
      const rows = open(2);
      const page = take(rows);
      await note(page);
      const last = page.read();
      const map = rows.map!;
      rows.close();
      expect(rows.map).toBeUndefined();
      expect(isOpen(map)).toBe(false);
      expect(page.read()).toEqual(last);
      page.close();
      expect(page.read()).toEqual(SILENT);
      const next = take(rows);
      expect(next.inKernel).toBe(false);
      next.close();
      rows.close();
      expect(descriptors(), `a map ${where}`).toBe(before);
    });

    test('are not kept by a page that is closed: the map stays open for the others', () => {
      stands();
      const rows = open(1);
      take(rows).close();
      expect(isOpen(rows.map!)).toBe(true);
      expect(view(take(rows)).read()).toEqual(SILENT);
    });
  });
});

describe.each([
  {
    why: 'it may not be made',
    rows: 4,
    refuse: () =>
      vi.spyOn(native(), 'createHintsMap').mockImplementation(() => {
        throw Object.assign(new Error('EPERM: bpf(BPF_MAP_CREATE)'), { code: 'EPERM' });
      }),
  },
  { why: 'it would have no rows', rows: 0, refuse: () => {} },
])('without a map, because $why', ({ rows: count, refuse }) => {
  test('every worker has a page of its own, which the kernel does not read', async () => {
    refuse();
    const rows = open(count);
    expect(rows.map).toBeUndefined();
    const [one, other] = takeAll(rows, 2);
    expect([one, other]).toMatchObject([
      { row: 0, inKernel: false },
      { row: 0, inKernel: false },
    ]);
    expect(one!.fd).not.toBe(other!.fd);
    await note(one!);
    expect(view(one!).read()).toEqual(one!.read());
    expect(other!.read()).toEqual(SILENT);
  });

  test('a page that is closed reads as silent, and leaves no descriptor', async () => {
    refuse();
    const before = descriptors();
    const rows = open(count);
    const page = take(rows);
    await note(page);
    page.close();
    page.close();
    expect(page.read()).toEqual(SILENT);
    rows.close();
    rows.close();
    expect(descriptors()).toBe(before);
  });
});

/** Pages of one kind cannot be had; the others can. */
function failing(whose: 'map' | 'create', error: Error): void {
  const { Hints } = native();
  class Failing extends Hints {
    constructor(how: 'map' | 'create') {
      if (how === whose) throw error;
      super('create');
    }
  }
  vi.spyOn(native(), 'Hints', 'get').mockReturnValue(Failing as typeof Hints);
}

test('where no page can be put into the map every worker has one of its own, and no descriptor is left', () => {
  const before = descriptors();
  standIn();
  const rows = open(2);
  failing('map', Object.assign(new Error('ENOMEM: mmap'), { code: 'ENOMEM' }));
  const pages = takeAll(rows, 2);
  expect(pages).toMatchObject([{ inKernel: false }, { inKernel: false }]);
  for (const page of pages) page.close();
  rows.close();
  expect(descriptors()).toBe(before);
});

test.skipIf(missing.length > 0)(
  'what a worker still writes after it is given back is read by nobody',
  async () => {
    const rows = open(1);
    const left = take(rows);
    const late = view(left);
    left.close();
    const next = take(rows);
    expect(next).toMatchObject({ row: 0, inKernel: true });
    late.beat();
    await until('it has noted a turn', () => late.read().state !== 'silent');
    expect(next.read()).toEqual(SILENT);
  },
);

test('that no memory can be had is an error with its cause', () => {
  const rows = open(0);
  const before = descriptors();
  failing(
    'create',
    Object.assign(new Error('EMFILE: memfd_create'), { code: 'EMFILE', syscall: 'memfd_create' }),
  );
  expect(() => rows.take()).toThrow(
    expect.objectContaining({ code: 'ERR_SPILLWAY_LIMIT', syscall: 'memfd_create' }),
  );
  expect(descriptors()).toBe(before);
});
