/**
 * A worker that has left its channel (`process.disconnect()`) cannot be asked to drain. It is sent SIGTERM at once, and
 * that is what it drains on: then the signal does what it would have done. Whoever listens for it in the program closes
 * and ends as it likes; there is a drain besides, and nobody is ended for it.
 */
import type { Drain } from './drain.js';
import { onDisconnect } from './link.js';

export function drainOnSigterm(drain: Drain): void {
  const end = () => {
    if (process.listenerCount('SIGTERM') === 0) process.kill(process.pid, 'SIGTERM');
  };
  // Once: whoever asks a second time does not want to wait.
  const begin = () => {
    // Nobody has said why, nor for how long; the master kills when its time is over.
    drain.begin({ reason: 'reload', limit: Number.POSITIVE_INFINITY });
    void drain.finished.then(end);
  };
  onDisconnect(() => process.once('SIGTERM', begin));
}
