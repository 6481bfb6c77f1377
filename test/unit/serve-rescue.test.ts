/** What the thread of the rescues is told of workers, also when it cannot be told. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type NativeRescuer, native } from '../../lib/native.js';
import { Rescue } from '../../lib/serve/rescue.js';

/** Descriptors that are free for those who serve. */
let free: number;
/** The threads that run. */
let threads: Thread[];

class Thread implements Partial<NativeRescuer> {
  /** Process by slot. */
  readonly workers = new Map<number, number>();

  constructor() {
    threads.push(this);
  }

  addPort(): void {}

  removePort(): void {}

  setWorker(slot: number, process: number): void {
    // As it does: the duplicate of the next one's channel comes before the end of the one before.
    if (free === 0) throw Object.assign(new Error('EMFILE: fcntl'), { code: 'EMFILE', syscall: 'fcntl' });
    this.clearWorker(slot);
    free--;
    this.workers.set(slot, process);
  }

  clearWorker(slot: number): void {
    if (this.workers.delete(slot)) free++;
  }

  close(): void {
    for (const slot of [...this.workers.keys()]) this.clearWorker(slot);
    threads = threads.filter((thread) => thread !== this);
  }
}

beforeEach(() => {
  threads = [];
  vi.spyOn(native(), 'Rescuer', 'get').mockReturnValue(Thread as never);
});
afterEach(() => vi.restoreAllMocks());

const worker = (pid: number) => ({ pid, links: undefined });
const known = () => threads.map(({ workers }) => Object.fromEntries(workers));
const noDescriptor = expect.objectContaining({ code: 'EMFILE' });

describe('while the thread runs', () => {
  let rescue: Rescue;
  beforeEach(() => {
    rescue = new Rescue();
    rescue.at(1).open();
  });

  test('a worker for which there is no descriptor is told of again as soon as there is one', () => {
    const next = worker(10);
    free = 0;
    expect(() => rescue.serves(0, next)).toThrow(noDescriptor);
    expect(() => rescue.serves(0, next)).toThrow(noDescriptor);
    expect(known()).toEqual([{}]);
    free = 1;
    rescue.serves(0, next);
    expect(known()).toEqual([{ 0: 10 }]);
  });

  test('a worker takes the descriptor of the one before in its slot', () => {
    free = 1;
    rescue.serves(0, worker(10));
    rescue.serves(0, worker(11));
    expect(known()).toEqual([{ 0: 11 }]);
  });

  test('a worker is told of once', () => {
    const one = worker(10);
    free = 1;
    rescue.serves(0, one);
    free = 0;
    rescue.serves(0, one);
    expect(known()).toEqual([{ 0: 10 }]);
    rescue.serves(0, undefined);
    expect([known(), free]).toEqual([[{}], 1]);
  });
});

test('a thread that cannot be told of all workers is not kept, and the next one knows them all', () => {
  const rescue = new Rescue();
  rescue.serves(0, worker(10));
  rescue.serves(1, worker(11));
  const rescues = rescue.at(1);
  free = 1;
  expect(() => rescues.open()).toThrow(noDescriptor);
  expect([known(), free]).toEqual([[], 1]);
  free = 2;
  rescues.open();
  expect(known()).toEqual([{ 0: 10, 1: 11 }]);
});
