/**
 * Which addresses are reachable is decided by whoever starts the master (matching.ts). A program that asked for its own
 * machine alone is not refused for it, but they are told: what it has may not be meant for others.
 */
import type { InheritedListener } from '../protocol.js';
import { exposes } from './matching.js';

let warned = false;

/** To be called when a server has got the listener; warns once per process. */
export function warnIfExposed(listener: InheritedListener, host: string | undefined): void {
  if (warned || !exposes(listener, host)) return;
  warned = true;
  const { address, port } = listener;
  process.emitWarning(
    `The program asked to listen on ${host} only, but port ${port} was declared on ${address}: other machines reach it`,
    {
      type: 'SpillwayWarning',
      code: 'SPILLWAY_ADDRESS',
      detail: `To keep it to this machine, start the master with --host ${host?.includes(':') ? '::1' : '127.0.0.1'} (option \`host\`).`,
    },
  );
}
