/** Finds the listener for a request: one that is here, or one that the master opens. */
import type { Answer } from '../protocol.js';
import type { Desk } from './desk.js';
import type { Listener, Listeners } from './listeners.js';
import type { ListenRequest } from './matching.js';

/**
 * The listener for what has been resolved to these addresses; without any, for all addresses.
 *
 * @throws what the server is to emit as its 'error'.
 */
export type Obtain = (request: ListenRequest, addresses: readonly string[]) => Listener;

/** What bind(2) says where the kernel has no IPv6, or it is switched off. */
const NO_IPV6 = new Set(['EAFNOSUPPORT', 'EADDRNOTAVAIL', 'EINVAL']);

export function obtainer(listeners: Listeners, desk: Desk): Obtain {
  /** @param from the first number that may tell a listener on port 0 from the others. */
  function ask(request: ListenRequest, address: string, from = 0): Listener {
    const { port, ipv6Only } = request;
    const nth = port === 0 ? listeners.freeNumber(address, from) : 0;
    const family = address.includes(':') ? 6 : 4;
    const { answer, fd } = askDesk({ ask: 'listener', address, family, port, v6Only: ipv6Only, nth });
    if ('listener' in answer && fd >= 0) {
      const anyPort = port === 0 && { anyPort: { address, nth } };
      const added = listeners.add({ ...answer.listener, fd, grant: answer.grant, ...anyPort });
      if (added) return added;
      // The program had closed this port and listens on it again by its number.
      if (port === 0) return ask(request, address, nth + 1);
      throw refusal('EADDRINUSE', address, port);
    }
    if (!('error' in answer)) throw refusal('EPROTO', address, port, 'the master has sent no listener');
    const { code, message, errno, syscall, advice } = answer.error;
    // What the kernel said reads as in any other program; the master's own words are the cause.
    const known = systemText(code);
    const error = refusal(code, address, port, known ?? message, syscall);
    if (advice !== undefined) error.message += ` (${advice})`;
    throw Object.assign(error, errno !== undefined && { errno }, known && { cause: message });
  }

  function askDesk(question: Parameters<Desk['ask']>[0] & { ask: 'listener' }): {
    answer: Answer;
    fd: number;
  } {
    try {
      return desk.ask(question);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      throw refusal(code as string, question.address, question.port, message);
    }
  }

  return (request, addresses) => {
    const [first] = addresses;
    const free = listeners.free(request, addresses);
    if (free) return free;
    // The master would give the same listener once more.
    if (listeners.conflicts(request, addresses)) throw refusal('EADDRINUSE', first, request.port);
    if (request.host !== undefined && first !== undefined) return ask(request, first);
    // As Node does without a host: all addresses of both families, or of IPv4 where there is no other.
    try {
      return ask(request, '::');
    } catch (error) {
      if (request.ipv6Only || !NO_IPV6.has((error as NodeJS.ErrnoException).code as string)) throw error;
      return ask(request, '0.0.0.0');
    }
  };
}

/** An error as `net.Server` emits it when listen(2) or bind(2) fails. */
export function refusal(
  code: string,
  address: string | undefined,
  port: number,
  text = systemText(code) ?? code,
  syscall = 'listen',
): NodeJS.ErrnoException {
  const where = address === undefined ? '' : ` ${port > 0 ? `${address}:${port}` : address}`;
  const errno = errnoOf(code);
  return Object.assign(new Error(`${syscall} ${code}: ${text}${where}`), {
    ...(errno !== undefined && { errno }),
    code,
    syscall,
    ...(address !== undefined && { address }),
    ...(port > 0 && { port }),
  });
}

function systemText(code: string): string | undefined {
  const errno = errnoOf(code);
  if (errno === undefined) return undefined;
  return process.getBuiltinModule('node:util').getSystemErrorMap().get(errno)?.[1];
}

function errnoOf(code: string): number | undefined {
  const { errno } = process.getBuiltinModule('node:os').constants;
  const number = (errno as Record<string, number>)[code];
  return number === undefined ? undefined : -number;
}
