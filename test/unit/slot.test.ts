/** Who works at a slot, whatever those who are told of it do. */
import { EventEmitter } from 'node:events';
import { expect, test, vi } from 'vitest';
import { Slot, type SlotRules } from '../../lib/serve/slot.js';
import type { WorkerProcess } from '../../lib/serve/worker-process.js';

/** A worker that is ready at once, and gone as soon as it is told to end. */
class Ready extends EventEmitter {
  state = 'running';
  readonly isReady = true;
  readonly readyAt = 0;
  readonly end = vi.fn(async () => {
    this.state = 'exited';
    this.emit('exit');
  });

  howEnded(): string {
    return 'was told to end';
  }
}

const RULES = { timing: { drainTimeout: 20, killTimeout: 10, startTimeout: 1000 }, autoRestart: true };

test.each(['ready', 'drain'] as const)(
  "the worker before ends although a listener of '%s' throws, and the slot has its successor",
  async (event) => {
    const workers: Ready[] = [];
    const slot = new Slot(
      3,
      async () => {
        const worker = new Ready();
        workers.push(worker);
        return worker as unknown as WorkerProcess;
      },
      () => RULES as SlotRules,
    );
    const immortal = vi.fn();
    slot.on('immortal', immortal);
    await slot.start();
    await slot.prepare();
    slot.once(event, () => {
      throw new Error('of a listener');
    });

    if (event === 'ready') expect(() => slot.promote('reload')).toThrow('of a listener');
    else slot.promote('reload');

    const [before, after] = workers;
    expect(before?.end).toHaveBeenCalledExactlyOnceWith('reload', { drain: 20, kill: 10 });
    expect(after?.end).not.toHaveBeenCalled();
    expect(slot.workers).toEqual([after]);
    expect(slot.current).toBe(after);
  },
);
