import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { printChecks, runChecks } from './checks.mjs';
import { explain, StepError } from './exec.mjs';
import { at, root } from './project.mjs';
import { readReport, Tally } from './report.mjs';
import { setUp } from './setup.mjs';
import { openUnprivileged } from './unprivileged.mjs';

/**
 * `npm test [-- project …] [-- arguments of vitest]`: set-up, the checks of the sources, then every project of
 * vitest.config.js. A project named alone is run alone. The last line on stdout is the sum.
 */

/** Kernel tests that may be skipped where all privileges are there: full name of the test → the reason. */
const ALLOWED_SKIPS = new Map([]);

/** A program in the kernel, and a network namespace of one's own. */
const KERNEL_TESTS_NEED = ['CAP_NET_ADMIN', 'CAP_SYS_ADMIN', 'CAP_PERFMON', 'CAP_BPF'];

const PROJECTS = ['unit', 'kernel', 'process', 'unprivileged'];

const tally = new Tally();
/** What failed, for those who see only the end of a long output. */
const failures = [];
const isRoot = process.getuid() === 0;

const given = process.argv.slice(2);
const chosen = PROJECTS.filter((name) => given.includes(name));
const vitestArgs = given.filter((arg) => !PROJECTS.includes(arg));

const temporary = mkdtempSync(join(tmpdir(), 'spillway-report-'));
/** Names of the capabilities that this process lacks for the kernel tests. */
let lacking = [];
let otherUser;
let interruptedBy;

// Also when a signal ends us in the middle of set-up or of the checks.
process.on('exit', () => {
  otherUser?.dispose();
  rmSync(temporary, { recursive: true, force: true });
});

try {
  await main();
} catch (error) {
  tally.add({ failed: 1 });
  if (error instanceof StepError) explain(error);
  else console.error(error);
}
process.exitCode = interruptedBy ? 128 + constants.signals[interruptedBy] : tally.failed > 0 ? 1 : 0;
if (failures.length > 0)
  process.stdout.write(`\n── failed\n${failures.map((each) => `✗ ${each}\n`).join('')}`);
process.stdout.write(`\n${tally}\n`);

async function main() {
  await setUp({ test: true });
  const { missingCapabilities } = await import(
    pathToFileURL(at('dist', 'lib', 'group', 'capability.js')).href
  );
  lacking = missingCapabilities(KERNEL_TESTS_NEED);

  if (chosen.length === 0) {
    heading('checks of the sources');
    const results = await runChecks();
    printChecks(results);
    for (const { name, passed } of results) {
      tally.add(passed ? { passed: 1 } : { failed: 1 });
      if (!passed) failures.push(`checks of the sources: ${name}`);
    }
  }

  let executed = 0;
  for (const run of runs()) {
    if (interruptedBy) break;
    executed += await vitest(run);
  }
  // A filter may leave projects without a test, but not all of them.
  if (vitestArgs.length > 0 && executed === 0) fail('no test was run: does the filter match anything?');
}

/** What is run, in this order: `{ project, asOtherUser }`. */
function runs() {
  const wanted = chosen.length > 0 ? chosen : PROJECTS;
  const plan = wanted.map((project) => ({ project, asOtherUser: isRoot && project === 'unprivileged' }));
  // What passes for root must pass without any privilege as well.
  if (isRoot && chosen.length === 0) plan.push({ project: 'unit', asOtherUser: true });
  return plan;
}

/** Runs one project, adds it to the sum and returns how many tests were executed. */
async function vitest({ project, asOtherUser }) {
  if (project === 'kernel' && lacking.length > 0) {
    skipKernelTests();
    return 0;
  }
  heading(asOtherUser ? `${project}, as a user without privileges` : project);
  if (asOtherUser) otherUser ??= openUnprivileged();
  const place = asOtherUser
    ? otherUser
    : { prefix: [], cwd: root, node: process.execPath, env: process.env, folder: temporary };

  const report = join(place.folder, `${project}${asOtherUser ? '-other-user' : ''}.json`);
  const reporters = vitestArgs.some((arg) => arg.startsWith('--reporter')) ? [] : ['--reporter=default'];
  const status = await follow(place, [
    ...vitestCommand(place, 'run', project),
    ...[...reporters, '--reporter=json', `--outputFile.json=${report}`],
    ...(vitestArgs.length > 0 ? ['--passWithNoTests', ...vitestArgs] : []),
  ]);
  if (interruptedBy) {
    fail(`${project} was interrupted by ${interruptedBy}`);
    return 0;
  }

  const result = readReport(report, status);
  tally.add(result);
  for (const complaint of result.complaints) console.log(`✗ ${project}: ${complaint}`);
  failures.push(...[...result.failures, ...result.complaints].map((each) => `${project}: ${each}`));

  const executed = result.passed + result.failed;
  if (executed === 0 && vitestArgs.length === 0) fail(`${project}: no test was executed`);
  if (project === 'kernel' && vitestArgs.length === 0) refuseSkips(result.skippedNames);
  return executed;
}

/** The config is loaded by Node itself: vite's own loader would write a temporary file beside it. */
function vitestCommand({ node, cwd }, verb, project) {
  return [
    node,
    join(cwd, 'node_modules/vitest/vitest.mjs'),
    verb,
    '--configLoader=native',
    `--project=${project}`,
  ];
}

/** With every privilege there, a skipped kernel test is one that nobody would miss if it never ran again. */
function refuseSkips(names) {
  for (const name of names.filter((each) => !ALLOWED_SKIPS.has(each))) {
    fail(`kernel: skipped although nothing is missing: ${name}`);
  }
}

/** Counts the tests that cannot run, so that the sum shows what was not looked at; in CI that is a failure. */
function skipKernelTests() {
  heading('kernel');
  const place = { node: process.execPath, cwd: root };
  const [program, ...args] = [...vitestCommand(place, 'list', 'kernel'), '--json', ...vitestArgs];
  const { stdout } = spawnSync(program, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // Should they not even load, one skip still says that something was left out.
  let skipped = 1;
  try {
    skipped = JSON.parse(stdout).length;
  } catch {
    console.log('the kernel tests could not be counted');
  }
  console.log(`- skipped: ${skipped} (they need ${lacking.join(', ')}: run them as root)`);
  tally.add({ skipped });
  if (process.env.CI) fail('kernel: skipped in CI, where it must run');
}

function heading(text) {
  console.log(`\n── ${text}`);
}

function fail(text) {
  tally.add({ failed: 1 });
  failures.push(text);
  console.log(`✗ ${text}`);
}

/** Runs a command to its end with our terminal; a signal to us ends it first. Returns its exit code. */
function follow({ prefix, cwd, env }, command) {
  return new Promise((resolve, reject) => {
    const [program, ...args] = [...prefix, ...command];
    const child = spawn(program, args, { cwd, env, stdio: ['ignore', 'inherit', 'inherit'] });
    const interrupt = (signal) => {
      interruptedBy = signal;
      child.kill('SIGTERM');
    };
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
    for (const signal of signals) process.on(signal, interrupt);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      for (const each of signals) process.off(each, interrupt);
      resolve(code ?? 128 + constants.signals[signal]);
    });
  });
}
