/**
 * A run: every scenario, every variant of it, round after round, and in every round every rival in turn. What is
 * compared later was measured minutes apart at most, on the same machine in the same state.
 */
import { type Driver, type Found, toldOf } from '../drivers/driver.js';
import { type OpenDelay, openDelay } from '../load/delay.js';
import { outcomes } from '../load/summary.js';
import type { DriverResult, FigureSpec, Report, ScenarioResult, VariantResult } from '../report/schema.js';
import { SCHEMA } from '../report/schema.js';
import type { BareVariant, Scale, Scenario, Variant } from '../scenarios/scenario.js';
import { PLAIN_REQUEST } from '../service/requests.js';
import { Collected, type Turn } from './collected.js';
import { readEnvironment } from './environment.js';
import type { Processors } from './network.js';
import { turnsOf } from './order.js';
import { RunningTarget } from './target.js';
import { findTools, type Tool } from './tools.js';
import { besideReference, verdictsOn } from './verdicts.js';

export interface RunOptions {
  scenarios: readonly Scenario[];
  /** Which variants, by id. */
  isWanted: (id: string) => boolean;
  drivers: readonly Driver[];
  /** Those of them that take turns in variants which are a closer look. */
  closer: readonly Driver[];
  /** What all are compared with; capacity is measured with it, also when it takes no turns itself. */
  reference: Driver;
  rounds: number;
  scale: Scale;
  seed: number;
  processors: Processors;
  signal: AbortSignal;
}

/** How far a run is. */
export interface Step {
  scenario: string;
  variant: string;
  driver: string;
  round: number;
  /** 0 to 1, by the number of turns. */
  done: number;
}

export type Progress = (step: Step) => void;

/**
 * @param keep gets the report so far after every scenario: what a run that is ended in the middle has found out.
 * Rejects with the signal's reason when it is aborted, with nothing left running.
 */
export async function runBenchmark(
  options: RunOptions,
  progress: Progress,
  keep: (report: Report) => void,
): Promise<void> {
  const began = performance.now();
  const environment = readEnvironment();
  const found = new Map<Driver, Found>();
  for (const driver of options.drivers) found.set(driver, await driver.find());
  const tools = findTools();
  const run = new Run(options, found, tools, progress);
  const scenarios: ScenarioResult[] = [];
  const report = (): Report => ({
    schema: SCHEMA,
    environment,
    options: {
      quick: options.scale === 'quick',
      rounds: options.rounds,
      seed: options.seed,
      reference: options.reference.name,
      processors: options.processors,
    },
    drivers: [...found].map(([{ name, title, about }, how]) => ({ name, title, about, ...toldOf(how) })),
    tools: [...tools].map(([name, how]) => ({ name, ...toldOf(how) })),
    scenarios: [...scenarios],
    took: (performance.now() - began) / 1000,
  });
  for (const scenario of options.scenarios) {
    scenarios.push(await run.scenario(scenario));
    keep(report());
  }
}

/** The variants of a scenario that this run measures. */
function variantsOf(options: RunOptions, scenario: Scenario): (Variant | BareVariant)[] {
  return scenario.variants(options.scale).filter(({ id }) => options.isWanted(id));
}

/** Who takes turns in a variant, as far as it does not exclude them. */
function driversOf({ drivers, closer }: RunOptions, variant: Variant | BareVariant): readonly Driver[] {
  return 'closer' in variant && variant.closer ? closer : drivers;
}

class Run {
  readonly #options: RunOptions;
  readonly #found: ReadonlyMap<Driver, Found>;
  readonly #tools: ReadonlyMap<Tool, Found>;
  readonly #progress: Progress;
  readonly #turns: number;
  #taken = 0;
  #services = 0;
  /** By what the capacity depends on. */
  readonly #capacities = new Map<string, number>();

  constructor(
    options: RunOptions,
    found: ReadonlyMap<Driver, Found>,
    tools: ReadonlyMap<Tool, Found>,
    progress: Progress,
  ) {
    this.#options = options;
    this.#found = found;
    this.#tools = tools;
    this.#progress = progress;
    const variants = options.scenarios.flatMap((scenario) => variantsOf(options, scenario));
    const perRound = variants.map((variant) => driversOf(options, variant).length);
    this.#turns = perRound.reduce((sum, count) => sum + count, 0) * options.rounds;
  }

  async scenario(scenario: Scenario): Promise<ScenarioResult> {
    const { name, title, shows, cannotShow } = scenario;
    const variants: VariantResult[] = [];
    for (const variant of variantsOf(this.#options, scenario)) {
      const drivers =
        'measureAll' in variant
          ? await this.#bare(scenario, variant)
          : await this.#withServices(scenario, variant);
      const { id, title } = variant;
      const settings = { ...variant.settings, ...this.#measuredSettings(variant) };
      const figures = [...variant.figures];
      variants.push({ id, title, settings, figures, drivers, verdicts: verdictsOn(figures, drivers) });
    }
    return { name, title, shows, cannotShow, variants };
  }

  async #withServices(scenario: Scenario, variant: Variant): Promise<DriverResult[]> {
    const { rounds, seed, processors } = this.#options;
    const all = new Map<Driver, Collected>();
    for (const driver of driversOf(this.#options, variant)) {
      all.set(driver, new Collected(driver.name, variant.figures, this.#absence(variant, driver)));
    }
    const far = variant.roundTrip ? await openDelay(variant.roundTrip, { cpu: processors.generator }) : null;
    try {
      const capacity = variant.needsCapacity ? await this.#capacityFor(variant) : Number.NaN;
      for (let round = 0; round < rounds; round++) {
        for (const [position, driver] of turnsOf([...all.keys()], round).entries()) {
          const collected = all.get(driver) as Collected;
          this.#step(scenario, variant, driver.name, round);
          if (collected.isAbsent) continue;
          // The arrivals are the same for all rivals of a round, and others in the next.
          const turn: Turn = { round, position, seed: seed + round };
          try {
            await this.#turn(variant, driver, collected, turn, capacity, far);
          } catch (error) {
            this.#options.signal.throwIfAborted();
            collected.fail(error);
          }
        }
      }
    } catch (error) {
      // Neither the link nor the capacity is a rival's: nobody can be measured here, and the run goes on.
      this.#options.signal.throwIfAborted();
      for (const collected of all.values()) collected.fail(error);
    } finally {
      // A link that lost packets says so here: nothing that was measured over it counts.
      await far?.close().catch((error: unknown) => {
        for (const collected of all.values()) collected.fail(error);
      });
    }
    return finished(all.values(), variant.figures, this.#options.reference.name);
  }

  async #turn(
    variant: Variant,
    driver: Driver,
    collected: Collected,
    turn: Turn,
    capacity: number,
    far: OpenDelay | null,
  ): Promise<void> {
    const target = await this.#open(driver, variant, far);
    try {
      const { round, seed } = turn;
      const measured = await variant.measure({
        driver,
        round,
        scale: this.#options.scale,
        seed,
        capacity,
        target,
      });
      collected.add(turn, measured);
    } finally {
      await target.close();
    }
  }

  async #bare(scenario: Scenario, variant: BareVariant): Promise<DriverResult[]> {
    const { rounds, scale, drivers } = this.#options;
    const all = new Map<string, Collected>();
    try {
      for (let round = 0; round < rounds; round++) {
        this.#step(scenario, variant, '', round, drivers.length);
        const figures = await variant.measureAll(round, scale);
        for (const [position, name] of Object.keys(figures).entries()) {
          const collected = all.get(name) ?? new Collected(name, variant.figures, null);
          all.set(name, collected);
          collected.add({ round, position, seed: 0 }, { figures: figures[name] ?? {}, samples: null });
        }
        this.#options.signal.throwIfAborted();
      }
    } catch (error) {
      this.#options.signal.throwIfAborted();
      const { name } = this.#options.reference;
      if (all.size === 0) all.set(name, new Collected(name, variant.figures, null));
      for (const collected of all.values()) collected.fail(error);
    }
    return finished(all.values(), variant.figures, this.#options.reference.name);
  }

  /** What the load of this variant was made from besides. */
  #measuredSettings(variant: Variant | BareVariant): Record<string, number> {
    if (!('needsCapacity' in variant) || !variant.needsCapacity) return {};
    const capacity = this.#capacities.get(capacityKey(variant));
    return capacity === undefined ? {} : { capacity: Math.round(capacity) };
  }

  #absence(variant: Variant, driver: Driver): DriverResult['absent'] {
    const found = this.#found.get(driver) as Found;
    if ('missing' in found) return { why: 'missing', text: found.missing };
    const tool = variant.tool && this.#tools.get(variant.tool);
    if (tool && 'missing' in tool) return { why: 'missing', text: tool.missing };
    const text = variant.excludes?.(driver) ?? null;
    return text === null ? null : { why: 'does-not-apply', text };
  }

  #step({ name }: Scenario, { id }: { id: string }, driver: string, round: number, turns = 1): void {
    this.#progress({ scenario: name, variant: id, driver, round, done: this.#taken / this.#turns });
    this.#taken += turns;
  }

  #open(driver: Driver, variant: Variant, far: OpenDelay | null): Promise<RunningTarget> {
    const { processors, signal } = this.#options;
    const { workers, placement, service: wishes = {} } = variant;
    const port = FIRST_PORT + (this.#services++ % PORTS);
    const warmUp = variant.saturates && this.#options.scale === 'full' ? 'thorough' : 'brief';
    return RunningTarget.open({ driver, workers, placement, wishes, port, far, warmUp, processors, signal });
  }

  /** Connections per second of the reference with these wishes, without any delay. */
  async #capacityFor(variant: Variant): Promise<number> {
    const key = capacityKey(variant);
    const known = this.#capacities.get(key);
    if (known !== undefined) return known;
    const target = await this.#open(this.#options.reference, variant, null);
    try {
      const capacity = await capacityOf(target, variant, this.#options.scale);
      this.#capacities.set(key, capacity);
      return capacity;
    } finally {
      await target.close();
    }
  }
}

/** Ports of the services: another one for every service, so that none inherits connections of the one before. */
const FIRST_PORT = 20_000;
const PORTS = 4_000;

/** What the capacity depends on. */
function capacityKey({ workers, placement, service = {}, saturates }: Variant): string {
  return JSON.stringify([workers, placement, service, saturates]);
}

/** Connections at once that saturate any service here. */
const MANY = 64;

/** Answers per second in a closed loop. */
async function capacityOf(target: RunningTarget, variant: Variant, scale: Scale): Promise<number> {
  const milliseconds = scale === 'quick' ? 700 : 3_000;
  const samples = await target.load({
    work: { mode: 'closed', concurrency: MANY, milliseconds, kind: 0 },
    requests: [PLAIN_REQUEST[variant.service?.protocol ?? 'http']],
    timeout: 10_000,
  });
  return outcomes(samples).ok / (milliseconds / 1000);
}

function finished(
  all: Iterable<Collected>,
  specs: readonly FigureSpec[],
  referenceName: string,
): DriverResult[] {
  const results = [...all].map((collected) => collected.result());
  const reference = results.find(({ driver }) => driver === referenceName);
  return reference ? results.map((result) => besideReference(result, specs, reference)) : results;
}
