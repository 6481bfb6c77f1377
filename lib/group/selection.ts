/** Which tier decides for a group: the best that works or the one asked for by name, and how one follows another. */
import { SpillwayError } from '../errors.js';
import type { NativeError } from '../native.js';
import { ClassicTier } from './classic-tier.js';
import { type EbpfOptions, EbpfTier, isRefusedSocket } from './ebpf-tier.js';
import { explain } from './listeners.js';
import type { GroupOptions, SelectorName } from './options.js';
import type { Settings } from './settings.js';
import type { GroupState, Tier } from './tier.js';
import { whyNotEbpf } from './why.js';

/** What the kernel has said no to: told by the addon, or put into words by whoever opened a socket. */
function isOfTheSystem(error: unknown): boolean {
  return error instanceof SpillwayError || (error as Partial<NativeError>).syscall !== undefined;
}

/** Owns the tier in force; there is one from the first to the last moment. */
export class Selection {
  readonly #group: GroupState;
  readonly #settings: Settings;
  readonly #ebpf: EbpfOptions;
  #tier: Tier;
  #notice: string | undefined;
  /** What was handed over, and what the kernel moved under earlier tiers of this group. */
  #migratedBefore = 0;

  /** Throws what loading and attaching throw, and leaves nothing behind when it does. */
  constructor(group: GroupState, settings: Settings, ebpf: EbpfOptions) {
    this.#group = group;
    this.#settings = settings;
    this.#ebpf = ebpf;
    this.#tier = this.#choose(settings.asked.selector ?? 'auto');
  }

  get tier(): Tier {
    return this.#tier;
  }

  get name(): SelectorName {
    return this.#tier.name;
  }

  /** With `selector: 'auto'`: why a better selector is not in force, in a sentence. */
  get notice(): string | undefined {
    return this.#notice;
  }

  /** Whether everything new is refused. */
  get refusing(): boolean {
    return this.#tier.refusing;
  }

  /** The value of an option of the whole group, under the tier in force. */
  inForce<Name extends Parameters<Settings['inForce']>[0]>(name: Name): GroupOptions[Name] {
    return this.#settings.inForce(name, this.name);
  }

  /** A connection of a leaving socket has been given away by hand. */
  countHandOver(): void {
    this.#migratedBefore++;
  }

  /** Connections of leaving sockets that were moved in the life of the group, of which `now` by the tier in force. */
  migrated(now: number): number {
    return this.#migratedBefore + now;
  }

  /** @throws {SpillwayError} `ERR_SPILLWAY_SELECTOR_UNAVAILABLE`, `ERR_SPILLWAY_OPTION_TIER`; the tier of before goes on then. */
  change(selector: GroupOptions['selector']): void {
    const before = this.#tier;
    if (selector === before.name || (selector === 'auto' && before.name === 'ebpf')) {
      this.#settings.ask('selector', selector);
      return;
    }
    if (this.refusing) {
      throw new SpillwayError(
        'ERR_SPILLWAY_OPTION_TIER',
        `the group refuses new connections, and goes on doing so with the selector '${before.name}'`,
      );
    }
    const notice = this.#notice;
    const migrated = this.migrated(before.counts().migrated);
    // The new program takes the old one's place in one step: at no moment does the kernel's own hash choose. Only the
    // sink must have left before.
    if (before instanceof EbpfTier) before.closeSink();
    try {
      this.#tier = this.#choose(selector);
    } catch (error) {
      this.#notice = notice;
      try {
        before.resume();
      } catch (left) {
        throw explain(left, `the selector '${before.name}' goes on, but without all that it had`);
      }
      throw explain(error, `the selector cannot be changed to '${selector}'`);
    }
    before.stop(false);
    this.#settings.ask('selector', selector);
    this.#migratedBefore = migrated;
  }

  /** @returns false where the tier in force cannot, for want of something outside this program; nothing has changed then. */
  refuseNew(): boolean {
    try {
      this.#tier.refuseNew();
      return true;
    } catch (error) {
      // Below `ebpf` a listener more is needed, and a kernel that lets a peer be made to sign.
      if (this.#tier.name !== 'ebpf' && isOfTheSystem(error)) return false;
      throw explain(error, 'the group cannot refuse new connections');
    }
  }

  #choose(selector: GroupOptions['selector']): Tier {
    if (selector !== 'auto') {
      this.#settings.assertFit(selector);
      try {
        return this.#tierNamed(selector);
      } catch (error) {
        if (error instanceof SpillwayError || isRefusedSocket(error)) throw error;
        const { sentence, hint } = whyNotEbpf(error, this.#ebpf.sockmap);
        const { syscall, errno } = error as Partial<NativeError>;
        // The sentence already says what the kernel said, where that is the reason.
        throw new SpillwayError(
          'ERR_SPILLWAY_SELECTOR_UNAVAILABLE',
          `selector '${selector}' does not work: ${sentence}`,
          {
            cause: error,
            hint,
            ...(syscall === undefined ? {} : { syscall }),
            ...(errno === undefined ? {} : { errno }),
          },
        );
      }
    }
    const reasons: string[] = [];
    for (const name of ['ebpf', 'cbpf', 'none'] as const) {
      try {
        this.#settings.assertFit(name, reasons[0]);
        const tier = this.#tierNamed(name);
        this.#notice = reasons[0];
        return tier;
      } catch (error) {
        if (error instanceof SpillwayError || isRefusedSocket(error)) throw error;
        reasons.push(`selector '${name}' does not work: ${whyNotEbpf(error, this.#ebpf.sockmap).sentence}`);
      }
    }
    throw new SpillwayError('ERR_SPILLWAY_SELECTOR_UNAVAILABLE', reasons.join('; '));
  }

  #tierNamed(name: SelectorName): Tier {
    return name === 'ebpf' ? new EbpfTier(this.#group, this.#ebpf) : new ClassicTier(this.#group, name);
  }
}
