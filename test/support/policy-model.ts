/**
 * What the policies promise, as pure functions: the model that the program in the kernel is held against. It is made
 * from the description (docs/options.md, the comments of native/bpf/policy.h) and not after the code: whoever is in
 * question is listed, in the order in which equals are preferred, the list is cut where the search may end, and the
 * best of it is picked.
 */
import { buildBuckets } from '../../lib/group/buckets.js';
import { buildChoices, pick } from '../../lib/group/choices.js';
import type { ChoiceRequest, Explanation } from '../../lib/group/ebpf-tier.js';
import { BUCKETS, MAX_CPUS, READINESS, STANDINGS } from '../../lib/group/layout.js';
import type { POLICY_NAMES } from '../../lib/group/options.js';
import { buildPlaces } from '../../lib/group/places.js';

export type PolicyName = (typeof POLICY_NAMES)[number];
export type SlotView = Explanation['slots'][number];

/** What the owner of a group has set for a slot. */
export interface SlotSettings {
  weight: number;
  enabled: boolean;
  cpu: number;
}

export interface Choice {
  first: number;
  chosen: number;
}

/** Neighbours that are asked when the first choice is not idle. */
const NEIGHBOURS = 16;
/** The settings of a group, by slot; an empty slot is undefined. */
export class PolicyModel {
  readonly #policy: PolicyName;
  readonly #settings: readonly (SlotSettings | undefined)[];
  readonly #choices: Uint32Array;
  readonly #buckets: Uint32Array | undefined;
  readonly #places: Map<number, number[]>;
  readonly #equal: boolean;

  constructor(policy: PolicyName, settings: readonly (SlotSettings | undefined)[]) {
    const shares = settings.map((slot) => (slot?.enabled ? slot.weight : 0));
    this.#policy = policy;
    this.#settings = settings;
    this.#choices = buildChoices(shares);
    this.#buckets = policy === 'sticky' ? buildBuckets(shares) : undefined;
    this.#places = policy === 'local-cpu' ? placesOf(settings) : new Map();
    this.#equal = shares[0]! > 0 && new Set(shares).size === 1;
  }

  /** Whose turn it is: one after another, or spread by weight where slots differ. */
  inTurn(turn: number): number {
    return this.#equal ? turn % this.#settings.length : this.#byWeight(Math.imul(turn, 0x9e3779b9) >>> 0);
  }

  choose(views: readonly SlotView[], request: ChoiceRequest): Choice {
    // Who is there matters where the policy says so; all others see workers of whom nothing is known.
    const asked = (slot: number) => this.#candidate(views, slot, this.#asks);
    const unasked = (slot: number) => this.#candidate(views, slot, false);
    const starter = this.#starter(asked, request);

    if (this.#comparesAll) {
      const everybody = [starter, ...this.#ringFrom(starter.slot).map(asked)];
      // Where weights differ, somebody of more weight may have something to do and be the better one.
      const enough = this.#policy === 'weighted' && !this.#equal ? 0 : 1;
      const { slot } = best(untilGoodEnough(everybody, enough));
      return { first: slot, chosen: slot };
    }
    if (this.#policy === 'idle-first' && request.warm < this.#settings.length) {
      const warm = asked(request.warm);
      if (isIdle(warm) && warm.share <= starter.share) return { first: warm.slot, chosen: warm.slot };
    }
    const numbers = randomNumbers(request.hash);
    const found = this.#looksAround ? this.#around(starter, numbers[1]!, asked) : starter;
    if (found.standing === 'free') return { first: starter.slot, chosen: found.slot };
    const more = [found, ...[numbers[2]!, numbers[3]!].map((number) => unasked(this.#byWeight(number)))];
    if (!more.some(({ standing }) => standing === 'free')) {
      const rest = this.#ringFrom(this.#byWeight(numbers[4]!)).map(unasked);
      more.push(...untilGoodEnough(rest, Number.POSITIVE_INFINITY));
    }
    return { first: starter.slot, chosen: best(more).slot };
  }

  get #asks(): boolean {
    return ['idle-first', 'local-cpu', 'two-choices', 'least-queue'].includes(this.#policy);
  }

  get #comparesAll(): boolean {
    return ['least-queue', 'least-connections', 'weighted'].includes(this.#policy);
  }

  get #looksAround(): boolean {
    return this.#policy === 'idle-first' || this.#policy === 'local-cpu';
  }

  #starter(asked: (slot: number) => Candidate, { hash, source, turn, cpu }: ChoiceRequest): Candidate {
    switch (this.#policy) {
      case 'hash':
      case 'least-queue':
        return asked(this.#byWeight(hash));
      case 'two-choices':
        return best([0, 1].map((which) => asked(this.#byWeight(randomNumbers(hash)[which]!))));
      case 'sticky':
        return asked(this.#buckets![source % BUCKETS]!);
      case 'local-cpu': {
        const here = this.#places.get(cpu);
        return asked(here ? here[turn % here.length]! : this.inTurn(turn));
      }
      default:
        return asked(this.inTurn(turn));
    }
  }

  /**
   * The first choice where it is good enough; otherwise whoever is idle in its neighbourhood, in the order that begins
   * anywhere; otherwise the better one of the first choice and the first of its neighbours.
   */
  #around(starter: Candidate, number: number, asked: (slot: number) => Candidate): Candidate {
    const { standing, readiness } = starter;
    const mayRun = this.#policy === 'local-cpu' && readiness === 'running';
    const others = this.#ringFrom(starter.slot).slice(1);
    if ((standing === 'free' && (readiness === 'idle' || mayRun)) || others.length === 0) return starter;
    const begin = number % others.length;
    const neighbours = [...others.slice(begin), ...others.slice(0, begin)].slice(0, NEIGHBOURS).map(asked);
    const idle = neighbours.find(isIdle);
    if (idle) return idle;
    const neighbour = neighbours[0]!;
    // Of two with nothing to do, the turns have chosen already.
    const isBetter = isAhead(neighbour, starter, (one) => one.load / one.weight);
    return isBetter ? neighbour : starter;
  }

  #byWeight(number: number): number {
    return pick(this.#choices, number);
  }

  #ringFrom(slot: number): number[] {
    const all = [...this.#settings.keys()];
    return [...all.slice(slot), ...all.slice(0, slot)];
  }

  #candidate(views: readonly SlotView[], slot: number, asks: boolean): Candidate {
    const { standing, readiness, load, live } = views[slot]!;
    // There is nothing to be told apart about slots that are empty.
    if (standing === 'absent') {
      return {
        slot,
        standing,
        readiness: 'running',
        load: Number.POSITIVE_INFINITY,
        live,
        share: live,
        weight: 1,
      };
    }
    const settings = this.#settings[slot]!;
    const weight = this.#policy === 'least-connections' ? 1 : settings.weight;
    return {
      slot,
      standing,
      readiness: asks ? readiness : 'running',
      load,
      live,
      share: live / weight,
      weight,
    };
  }
}

interface Candidate extends SlotView {
  slot: number;
  weight: number;
  /** Its live connections for its weight. */
  share: number;
}

function isIdle({ standing, readiness }: Candidate): boolean {
  return standing === 'free' && readiness === 'idle';
}

/** Who has room comes before who has none, then who comes soon, then who has the least to do. */
function isAhead(one: Candidate, other: Candidate, work: (of: Candidate) => number): boolean {
  return (
    (STANDINGS.indexOf(one.standing) - STANDINGS.indexOf(other.standing) ||
      READINESS.indexOf(one.readiness) - READINESS.indexOf(other.readiness) ||
      work(other) - work(one)) > 0
  );
}

/** Whether it is better to give the next one to, which counts as work to do. */
function beats(one: Candidate, other: Candidate): boolean {
  return isAhead(one, other, ({ load, weight }) => (load + 1) / weight);
}

/** Among equals, whoever comes first. */
function best(candidates: readonly Candidate[]): Candidate {
  return candidates.reduce((best, candidate) => (beats(candidate, best) ? candidate : best));
}

/** The candidates up to the first one that has no more than that to do, has room, will come, and beats all before it. */
function untilGoodEnough(candidates: readonly Candidate[], enough: number): Candidate[] {
  const end = candidates.findIndex(
    (candidate, place) =>
      candidate.standing === 'free' &&
      (candidate.readiness === 'running' || candidate.readiness === 'idle') &&
      candidate.load < enough &&
      candidates.slice(0, place).every((before) => beats(candidate, before)),
  );
  return end < 0 ? [...candidates] : candidates.slice(0, end + 1);
}

/** The hash, and four numbers after it that each tell nothing about the one before (the finalizer of MurmurHash3). */
function randomNumbers(hash: number): number[] {
  const numbers = [hash];
  for (let count = 0; count < 4; count++) {
    let mix = numbers.at(-1)!;
    mix = Math.imul(mix ^ (mix >>> 16), 0x85ebca6b);
    mix = Math.imul(mix ^ (mix >>> 13), 0xc2b2ae35);
    numbers.push((mix ^ (mix >>> 16)) >>> 0);
  }
  return numbers;
}

/** Slots by the CPU they are on, as far as anybody is there. */
function placesOf(settings: readonly (SlotSettings | undefined)[]): Map<number, number[]> {
  const [cpus, slots] = buildPlaces(settings);
  const places = new Map<number, number[]>();
  for (let cpu = 0; cpu < MAX_CPUS; cpu++) {
    const [first, count] = [cpus[2 * cpu]!, cpus[2 * cpu + 1]!];
    if (count > 0) places.set(cpu, [...slots.slice(first, first + count)]);
  }
  return places;
}
