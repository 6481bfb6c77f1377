/** Options of an open group: setting and reading them, at the listeners, in the slots, or for all. */
import { SpillwayError } from '../errors.js';
import { readListenerOption, writeEverywhere } from './listener-options.js';
import { explain } from './listeners.js';
import { limitOf, type Members } from './members.js';
import {
  assertGives,
  assertOptionName,
  checkValue,
  type GroupOptions,
  type ListenerOptionName,
  type OptionName,
  optionRow,
  SLOT_OPTIONS,
} from './options.js';
import type { Selection } from './selection.js';
import { oneMustStayEnabled, type Settings } from './settings.js';

/** Owns nothing: it keeps settings, members and the tier in step. */
export class LiveOptions {
  readonly #family: 4 | 6;
  readonly #members: Members;
  readonly #settings: Settings;
  readonly #selection: Selection;

  constructor(family: 4 | 6, members: Members, settings: Settings, selection: Selection) {
    this.#family = family;
    this.#members = members;
    this.#settings = settings;
    this.#selection = selection;
  }

  set<Name extends OptionName>(name: Name, value: GroupOptions[Name], slot?: number): void {
    assertOptionName(name);
    const checked = checkValue(name, value);
    const { scope, live } = optionRow(name);
    if (!live)
      throw new SpillwayError('ERR_SPILLWAY_OPTION_FIXED', `${name} can only be given at the opening`);
    if (slot !== undefined && scope !== 'slot') {
      throw new SpillwayError(
        'ERR_SPILLWAY_OPTION_RANGE',
        `${name} is an option of the group, not of one slot`,
      );
    }
    if (name === 'selector') {
      this.#selection.change(checked as GroupOptions['selector']);
      return;
    }
    assertGives(this.#selection.name, name, checked);
    if (scope === 'listener') {
      this.#setAtListeners(name as ListenerOptionName, checked as never);
      return;
    }
    if (name === 'enabled' && checked === false) this.assertOneStaysEnabled(slot);
    const restore = this.#settings.snapshot();
    try {
      if (scope === 'slot') this.#setInSlots(name, checked, slot);
      if (slot === undefined) this.#settings.ask(name, checked);
      this.#selection.tier.changed();
    } catch (error) {
      restore();
      try {
        this.#selection.tier.changed();
      } catch {
        // The first error tells what was wrong; the program in force is the one of before.
      }
      throw explain(error, `${name} cannot be changed`);
    }
  }

  get(name: OptionName, slot?: number): unknown {
    assertOptionName(name);
    if (name === 'selector') return this.#selection.name;
    const { scope } = optionRow(name);
    if (scope === 'listener') {
      const member = slot === undefined ? this.#members.present[0] : this.#members.at(slot);
      if (!member) throw new SpillwayError('ERR_SPILLWAY_NO_SUCH_SLOT', 'no slot of the group has a socket');
      return readListenerOption(member.socket, this.#family, name as ListenerOptionName);
    }
    if (slot === undefined) return this.#selection.inForce(name);
    const member = this.#members.at(slot);
    if (name === 'backlog') return member.limit;
    if (isSlotOption(name)) return member[name];
    return this.#selection.inForce(name);
  }

  /**
   * Only a program in the kernel can refuse connections for all; a classic one would fall back to the kernel's hash.
   *
   * @param slot the one that is not to be enabled; undefined: all of them.
   */
  assertOneStaysEnabled(slot: number | undefined): void {
    const { name } = this.#selection;
    if (name === 'ebpf') return;
    const { slots } = this.#members;
    if (slot !== undefined && slots.some((member, other) => member?.enabled && other !== slot)) return;
    throw oneMustStayEnabled(name);
  }

  #setAtListeners<Name extends ListenerOptionName>(name: Name, value: GroupOptions[Name]): void {
    const sockets = this.#members.present.map(({ socket }) => socket);
    writeEverywhere(sockets, this.#family, name, value);
    this.#settings.ask(name, value);
    if (name === 'deferAccept') this.#selection.tier.changed();
  }

  #setInSlots(name: OptionName, value: unknown, slot: number | undefined): void {
    for (const member of slot === undefined ? this.#members.present : [this.#members.at(slot)]) {
      if (name === 'backlog') {
        // listen() would revive one that another holder has shut down, outside the group.
        if (!member.socket.acceptQueue()) continue;
        member.socket.listen(value as number);
        member.limit = limitOf(member.socket);
      } else if (isSlotOption(name)) Object.assign(member, { [name]: value });
    }
  }
}

function isSlotOption(name: OptionName): name is (typeof SLOT_OPTIONS)[number] {
  return (SLOT_OPTIONS as readonly OptionName[]).includes(name);
}
