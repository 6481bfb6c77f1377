/** The doctor's report for people. */
import type { Colors } from 'picocolors/types.js';
import type { Trial } from '../../group/probe.js';
import { wrapped } from '../text.js';
import type { Grant } from './grant.js';
import type { Check, CheckState, DoctorReport } from './judge.js';

const MARKS: Record<CheckState, string> = { ok: '✓', note: '·', warning: '!', failed: '✗' };

/** @param width columns of the terminal; lines of commands are never broken. */
export function printReport(report: DoctorReport, width: number, colours: Colors): string {
  const paint: Record<CheckState, (text: string) => string> = {
    ok: colours.green,
    note: colours.dim,
    warning: colours.yellow,
    failed: colours.red,
  };
  const mark = (state: CheckState) => paint[state](MARKS[state]);
  const indented = (text: string, by: number) =>
    wrapped(text, width - by).map((line) => colours.dim(`${' '.repeat(by)}${line}`));

  const lines = [...headline(report, width), ''];
  lines.push(colours.bold('Selectors'));
  for (const trial of report.selectors) {
    const [first, ...rest] = wrapped(verdict(trial, report), width - 10);
    lines.push(`  ${mark(stateOf(trial, report))} ${trial.selector.padEnd(5)} ${first}`);
    lines.push(...rest.map((line) => `${' '.repeat(10)}${line}`));
    if (trial.works || !report.machine.addon.loaded) continue;
    // With the exact lines below, the general hint would say it twice.
    if (trial.hint && report.grants.length === 0) lines.push(...indented(trial.hint, 10));
    if (trial.detail && report.grants.length === 0) {
      lines.push(...trial.detail.split('\n').map((line) => colours.dim(`          ${line}`)));
    }
  }
  for (const [about, title] of [
    ['machine', 'Machine'],
    ['limits', 'Limits'],
  ] as const) {
    const checks = report.checks.filter((check) => check.about === about);
    const column = Math.max(...checks.map(({ name }) => name.length));
    lines.push('', colours.bold(title));
    for (const { name, state, value, advice } of checks)
      lines.push(...row(name, state, value, advice, column));
  }
  if (report.grants.length > 0) {
    lines.push('', colours.bold("To get the selector 'ebpf', one of these:"));
    for (const grant of report.grants) lines.push('', ...ways(grant));
  }
  return `${lines.join('\n')}\n`;

  function row(
    name: string,
    state: CheckState,
    value: string,
    advice: Check['advice'],
    column: number,
  ): string[] {
    const margin = 4 + column + 2;
    const [first = '', ...rest] = wrapped(value, width - margin);
    const line = `  ${mark(state)} ${name.padEnd(column)}  ${first}`;
    // Short advice stands beside its value.
    if (advice !== null && margin + value.length + 2 + advice.length <= width) {
      return [`${line}  ${colours.dim(advice)}`];
    }
    return [
      line,
      ...rest.map((more) => `${' '.repeat(margin)}${more}`),
      ...(advice === null ? [] : indented(advice, 6)),
    ];
  }

  function ways({ title, lines: exact, note }: Grant): string[] {
    return [
      `  ${colours.cyan(title)}`,
      ...exact.map((line) => `    ${line}`),
      ...(note === null ? [] : indented(note, 4)),
    ];
  }
}

function headline({ spillway, machine }: DoctorReport, width: number): string[] {
  const { kernel, architecture, node, user, container, systemd } = machine;
  const parts = [
    `spillway ${spillway}`,
    `Linux ${kernel} ${architecture}`,
    `Node ${node.version}`,
    `user ${user.uid}`,
    ...(container === null ? [] : [`container (${container})`]),
    ...(systemd.unit === null ? [] : [systemd.unit]),
  ];
  // Lines are broken between the parts, not within.
  const whole = parts.map((part) => part.replaceAll(' ', '\u00a0')).join(' · ');
  return wrapped(whole, width).map((line) => line.replaceAll('\u00a0', ' '));
}

function stateOf({ works, selector }: Trial, { works: some }: DoctorReport): CheckState {
  if (works) return 'ok';
  return some && selector === 'ebpf' ? 'warning' : 'failed';
}

const GIVES: Record<Trial['selector'], string> = {
  ebpf: 'the kernel redirects at the SYN',
  cbpf: 'full queues are passed by within milliseconds',
  none: "the kernel's hash, nothing is redirected",
};

function verdict({ selector, works, why }: Trial, report: DoctorReport): string {
  if (works) return `works: ${GIVES[selector]}${report.selector === selector ? " (taken by 'auto')" : ''}`;
  return report.machine.addon.loaded ? `does not work: ${why}` : 'not tried: the native addon is not there';
}
