/** How the reports write numbers, units, comparisons and machines: the same in every form, so that they can be searched. */
import { stripVTControlCharacters } from 'node:util';
import { type Comparison, MINIMUM_ROUNDS } from '../method/compare.js';
import type { Environment } from '../method/environment.js';
import type { Figure } from '../method/statistics.js';
import type { DriverResult, FigureSpec, Report, ReportedTool, VariantResult } from './schema.js';

/** Three significant digits; whole numbers keep all of theirs, with commas between the thousands. */
export function inDigits(value: number): string {
  const size = Math.abs(value);
  const text = size >= 100 || Number.isInteger(value) ? thousands(Math.round(size)) : fraction(size);
  return value < 0 && text !== '0' ? `−${text}` : text;
}

function thousands(whole: number): string {
  return String(whole).replace(/\B(?=(\d{3})+$)/g, ',');
}

function fraction(size: number): string {
  return size < 0.0005 ? size.toExponential(1) : size.toPrecision(3);
}

export function withUnit(text: string, unit: string): string {
  if (unit === '') return text;
  return unit.startsWith('1/') ? `${text}${unit.slice(1)}` : `${text} ${unit}`;
}

/** The head of a column of bare numbers: "99th percentile, ms". */
export function titleWithUnit({ title, unit }: FigureSpec): string {
  return unit === '' ? title : `${title}, ${unit}`;
}

/** Such as "lower is better"; empty where neither way is. */
export function direction({ better }: FigureSpec): string {
  return better === null ? '' : `${better} is better`;
}

/** Lowest and highest round: "1.10–1.42". */
export function range({ min, max }: Figure): string {
  return `${inDigits(min)}–${inDigits(max)}`;
}

/** "1.23 (1.10–1.42)", without the unit. */
export function withRange(figure: Figure): string {
  return `${inDigits(figure.median)} (${range(figure)})`;
}

/** "×1.52 [1.40, 1.65]", or "+120 ms [+100, +140]" where no ratio could be had; without a unit where a head has it. */
export function comparisonText(comparison: Comparison, unit: string): string {
  const { of, median, interval } = comparison;
  if (of === 'ratio')
    return `×${ratio(median)}${interval ? ` [${ratio(interval[0])}, ${ratio(interval[1])}]` : ''}`;
  const text = withUnit(signed(median), unit);
  return interval ? `${text} [${signed(interval[0])}, ${signed(interval[1])}]` : text;
}

/** A ratio near 1 needs its second and third digit behind the point, a large one does not. */
function ratio(value: number): string {
  if (value >= 100) return inDigits(value);
  if (value >= 10) return value.toFixed(1);
  return value >= 0.095 ? value.toFixed(2) : fraction(value);
}

function signed(value: number): string {
  return value > 0 ? `+${inDigits(value)}` : inDigits(value);
}

/** How far apart the two are, whoever is better: "3.1×", or "120 ms" where no ratio could be had. */
export function apart({ of, median }: Comparison, { unit }: Pick<FigureSpec, 'unit'>): string {
  return of === 'ratio'
    ? `${ratio(Math.max(median, 1 / median))}×`
    : withUnit(inDigits(Math.abs(median)), unit);
}

/** The same seen from the first of the two: "3.1× better", "120 ms worse", "no difference shown". */
export function advantage(comparison: Comparison, figure: Pick<FigureSpec, 'unit'>): string {
  const { verdict, rounds } = comparison;
  if (verdict === 'tie') return 'no difference shown';
  if (verdict === 'unknown') return `no verdict (${count(rounds, 'round')})`;
  return `${apart(comparison, figure)} ${verdict === 'win' ? 'better' : 'worse'}`;
}

export const VERDICT_TEXT: Record<Comparison['verdict'], string> = {
  win: 'win',
  loss: 'loss',
  tie: 'tie',
  unknown: 'no verdict',
};

/** "1 round", "5 rounds". */
export function count(amount: number, what: string): string {
  return `${inDigits(amount)} ${what}${amount === 1 ? '' : what.endsWith('s') ? 'es' : 's'}`;
}

const ABSENT_TEXT = {
  missing: 'missing',
  'does-not-apply': 'does not apply',
  failed: 'failed',
} as const;

/** Why a driver has no figures: "failed: …", without the colours and cursor movements of what a program said. */
export function absentText({ why, text }: NonNullable<DriverResult['absent']>): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out.
  const plain = stripVTControlCharacters(text).replace(/[\x00-\x09\x0b-\x1f\x7f]/g, ' ');
  return `${ABSENT_TEXT[why]}: ${plain.trim()}`;
}

/** What a reader must know before the first figure; null when there is nothing. */
export function warning({ options }: Report): string | null {
  return options.rounds < MINIMUM_ROUNDS
    ? `No verdict is given: ${count(options.rounds, 'round')}, and it takes ${MINIMUM_ROUNDS} to tell a difference from chance.`
    : null;
}

/** Load average of the last minute at the start, above which something else ran, or had just run. */
const BUSY_LOAD = 0.5;

/** That the machine was not the benchmark's alone; null when nothing says so. */
export function busyWarning({ load }: Environment): string | null {
  return load > BUSY_LOAD
    ? `The machine was busy when the benchmark began: its load average was ${load.toFixed(2)}, and above ${BUSY_LOAD} the figures may be those of what ran beside.`
    : null;
}

/** Above this share of a processor, or this late (milliseconds, 99th percentile), it is the generator that was measured. */
const GENERATOR_LIMIT = { busy: 0.9, late: 1 } as const;

/**
 * That a variant's figures are those of the generator in some turns; null where it could do what it was told, and where
 * that was not recorded.
 */
export function generatorWarning(
  { drivers }: VariantResult,
  nameOf: (driver: string) => string = String,
): string | null {
  const turns = drivers.flatMap(({ driver, rounds }) =>
    rounds.flatMap(({ generator }) => (generator ? { driver, ...generator } : [])),
  );
  const limited = turns.filter(
    ({ busy, lateP99 }) => busy > GENERATOR_LIMIT.busy || lateP99 > GENERATOR_LIMIT.late,
  );
  if (limited.length === 0) return null;
  const names = [...new Set(limited.map(({ driver }) => nameOf(driver)))].join(', ');
  const busiest = inDigits(100 * Math.max(...limited.map(({ busy }) => busy)));
  const latest = withUnit(inDigits(Math.max(...limited.map(({ lateP99 }) => lateP99))), 'ms');
  return [
    `The generator itself was the limit in ${inDigits(limited.length)} of ${count(turns.length, 'turn')} (${names}):`,
    `it was up to ${busiest} % busy and up to ${latest} late (p99);`,
    `${100 * GENERATOR_LIMIT.busy} % and ${GENERATOR_LIMIT.late} ms are allowed.`,
  ].join(' ');
}

/** Its version, or that it is missing and how to get it. */
export function toolText({ name, version, missing }: ReportedTool): string {
  return missing === null ? (version ?? `${name}, version unknown`) : `${name} is missing: ${missing}`;
}

/** What a reader of many verdicts must know: the intervals are 95 % ones, each on its own. */
export const UNCORRECTED =
  'Verdicts are not corrected for many comparisons: of figures that do not differ, about 1 in 40 looks like a win and 1 in 40 like a loss.';

/** "2 × AMD EPYC, in a virtual machine". */
export function machine({ cpu, virtual }: Environment): string {
  return `${cpu.count} × ${cpu.model}${virtual ? ', in a virtual machine' : ''}`;
}

export function revision({ git }: Environment): string {
  if (git === null) return 'unknown revision';
  return `${git.revision.slice(0, 12)}${git.changed ? ', with changes' : ''}`;
}

export function day({ date }: Environment): string {
  return date.slice(0, 10);
}

/** In one line: date, kernel, machine, Node, revision. */
export function whereAndWhen(environment: Environment): string {
  const { kernel, arch, node } = environment;
  return `${day(environment)}, Linux ${kernel} (${arch}), ${machine(environment)}, Node ${node}, ${revision(environment)}`;
}

/** How it was measured, in one line. */
export function method({ options, took }: Report): string {
  const { generator, apart, over } = options.processors;
  return [
    `${count(options.rounds, 'round')}${options.quick ? ', quick' : ''}, seed ${options.seed}`,
    `compared with ${options.reference}`,
    `generator on CPU ${generator}, services on CPU ${apart.join(',')} or ${over.join(',')}`,
    `${duration(took)} in all`,
  ].join('; ');
}

export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
