/** That what is asked of a master comes one after another, and that nothing begins once its end has begun. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Operations } from '../../lib/serve/operations.js';

/** A promise, and what settles it. */
function pending() {
  let resolve!: () => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<void>((...settle) => {
    [resolve, reject] = settle;
  });
  return { promise, resolve, reject };
}

const CLOSED = { code: 'ERR_SPILLWAY_CLOSED' };

describe('an operation', () => {
  test.each([
    ['succeeds', (start: ReturnType<typeof pending>) => start.resolve()],
    ['fails', (start: ReturnType<typeof pending>) => start.reject(new Error('no worker'))],
  ])('waits for the start, also when that %s', async (_, end) => {
    const operations = new Operations();
    const start = pending();
    operations.follow(start.promise);
    let begun = false;
    const done = operations.inTurn(async () => {
      begun = true;
    });
    await nextTurn();
    expect(begun).toBe(false);
    end(start);
    await done;
    expect(begun).toBe(true);
  });

  test('waits for the one before, also when that fails, and gives what its work gives', async () => {
    const operations = new Operations();
    const first = pending();
    const failed = operations.inTurn(() => first.promise);
    const order: string[] = [];
    const second = operations.inTurn(async () => order.push('second'));
    const third = operations.inTurn(async () => order.push('third'));
    await nextTurn();
    expect(order).toEqual([]);
    first.reject(new Error('not this one'));
    await expect(failed).rejects.toThrow('not this one');
    expect([await second, await third]).toEqual([1, 2]);
    expect(order).toEqual(['second', 'third']);
  });

  test('that has begun goes on when the end begins, those behind it are refused, and so are later ones', async () => {
    const operations = new Operations();
    const work = pending();
    const going = operations.inTurn(() => work.promise);
    let begun = false;
    const waiting = operations.inTurn(async () => {
      begun = true;
    });
    await nextTurn();
    operations.assertOpen();
    operations.beginEnd();
    await operations.end;
    expect(operations.isEnding).toBe(true);
    expect(() => operations.assertOpen()).toThrow(expect.objectContaining(CLOSED));
    await expect(operations.inTurn(async () => {})).rejects.toMatchObject(CLOSED);
    work.resolve();
    await going;
    await expect(waiting).rejects.toMatchObject(CLOSED);
    expect(begun).toBe(false);
  });
});
