/** The TLS session ticket keys that all workers share, so that a client may resume its session at any of them. */
import { randomBytes } from 'node:crypto';

/** What tls.Server.setTicketKeys() takes: a name, a key to sign and a key to encrypt, 16 bytes each. */
const LENGTH = 48;

/**
 * A key that has been replaced is forgotten: a ticket that was made with it costs its client a full handshake. That is
 * what limits how much recorded traffic a stolen key opens (RFC 8446, appendix C.4 and F.1.2, on the life of such keys).
 */
export class TicketKeys {
  readonly #changed: (keys: string) => void;
  #keys: string;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param rotation milliseconds between changes; 0: never.
   * @param changed gets the new keys.
   * @param keys that workers have already; default: new ones.
   */
  constructor(rotation: number, changed: (keys: string) => void, keys?: string) {
    this.#changed = changed;
    this.#keys = keys ?? randomBytes(LENGTH).toString('base64');
    if (rotation === 0) return;
    this.#timer = setInterval(() => this.rotate(), rotation);
    this.#timer.unref();
  }

  /** Base64. */
  get current(): string {
    return this.#keys;
  }

  rotate(): void {
    this.#keys = randomBytes(LENGTH).toString('base64');
    this.#changed(this.#keys);
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
