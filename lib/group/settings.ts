/** What was asked of a group, what of it is in force, and whether a selector can give it. */
import { SpillwayError } from '../errors.js';
import type { Members } from './members.js';
import {
  type AskedOptions,
  assertGives,
  defaultFor,
  type GroupOptions,
  OPTION_NAMES,
  type OptionName,
  type SelectorName,
  SLOT_OPTIONS,
} from './options.js';

export function oneMustStayEnabled(selector: SelectorName): SpillwayError {
  return new SpillwayError(
    'ERR_SPILLWAY_OPTION_TIER',
    `with the selector '${selector}' one socket of the group must stay enabled`,
  );
}

/** Owns the values that were asked for; those of single slots belong to the members. */
export class Settings {
  readonly #asked: AskedOptions;
  readonly #members: Members;

  constructor(asked: AskedOptions, members: Members) {
    this.#asked = { ...asked };
    this.#members = members;
    // As the kernel has it: it caps a larger backlog at net.core.somaxconn.
    if (asked.backlog !== undefined) this.#asked.backlog = this.#backlogInForce;
  }

  get asked(): Readonly<AskedOptions> {
    return this.#asked;
  }

  /** The value of the group under a selector: some defaults differ. */
  inForce<Name extends OptionName>(name: Name, selector: SelectorName): GroupOptions[Name] {
    const asked = this.#asked[name] ?? (name === 'backlog' ? this.#backlogInForce : undefined);
    return (asked ?? defaultFor(selector, name)) as GroupOptions[Name];
  }

  ask(name: OptionName, value: unknown): void {
    (this.#asked as Record<string, unknown>)[name] = name === 'backlog' ? this.#backlogInForce : value;
  }

  /** @returns what brings back the values of now. */
  snapshot(): () => void {
    const asked = { ...this.#asked };
    const members = this.#members.present.map((member) => ({ member, ...member }));
    return () => {
      for (const name of OPTION_NAMES) delete this.#asked[name];
      Object.assign(this.#asked, asked);
      for (const { member, limit, ...own } of members) {
        if (member.limit !== limit && member.socket.acceptQueue()) member.socket.listen(limit);
        member.limit = limit;
        for (const name of SLOT_OPTIONS) Object.assign(member, { [name]: own[name] });
      }
    };
  }

  /**
   * Every option that was asked for must be one the selector gives: nothing is approximated in silence.
   *
   * @param reason why this selector is tried at all.
   * @throws {SpillwayError} `ERR_SPILLWAY_OPTION_TIER`
   */
  assertFit(selector: SelectorName, reason?: string): void {
    try {
      for (const name of OPTION_NAMES) {
        const value = this.#asked[name];
        if (value !== undefined) assertGives(selector, name, value);
      }
      const { present } = this.#members;
      for (const member of present)
        for (const name of SLOT_OPTIONS) assertGives(selector, name, member[name]);
      if (selector !== 'ebpf' && !present.some(({ enabled }) => enabled)) throw oneMustStayEnabled(selector);
    } catch (error) {
      if (reason === undefined || !(error instanceof SpillwayError)) throw error;
      throw new SpillwayError(error.code, `${error.message}, because ${reason}`, { cause: error });
    }
  }

  get #backlogInForce(): number | undefined {
    return this.#members.present[0]?.limit;
  }
}
