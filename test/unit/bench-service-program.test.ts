/** The benchmark's program by itself, as a rival that does nothing would run it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, get } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { BLOCKERS } from '../../bench/service/blocking.js';
import { Desk } from '../../bench/service/desk.js';
import { treeOf } from '../../bench/service/processes.js';
import { packageRoot } from '../../lib/native.js';
import { freePort, Run } from '../support/cli.js';
import { until } from '../support/until.js';

const PROGRAM = join(packageRoot, 'bench/service/program.mjs');

/** Milliseconds that something is made to take: far more than the noise of the machine takes. */
const LONG = 150;

const ends: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

interface Program {
  run: Run;
  desk: Desk;
  port: number;
}

/** Resolves when it listens. */
async function start(env: Record<string, string> = {}): Promise<Program> {
  const folder = mkdtempSync(join(tmpdir(), 'spw-'));
  ends.push(() => rmSync(folder, { recursive: true }));
  const desk = await Desk.open(folder);
  ends.push(() => desk.close());
  const port = await freePort();
  const run = new Run(process.execPath, [PROGRAM], { ...desk.env, PORT: String(port), ...env });
  await desk.untilListening(1);
  return { run, desk, port };
}

function ask(
  { port }: Program,
  path = '/',
  agent: Agent | false = false,
): Promise<{ body: string; took: number }> {
  const began = performance.now();
  return new Promise((resolve, reject) => {
    get({ host: '127.0.0.1', port, path, agent }, (response) => {
      let body = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        body += text;
      });
      response.on('end', () => resolve({ body, took: performance.now() - began }));
      expect(response.statusCode).toBe(200);
      expect(response.headers['content-length']).toBeDefined();
    }).on('error', reject);
  });
}

test('answers with its id, which the desk knows it by', async () => {
  const program = await start();
  const id = String(program.run.pid);
  expect((await ask(program)).body).toBe(id);
  expect(program.desk.workers()).toMatchObject([{ id, pid: program.run.pid, thread: false }]);
});

test.each(BLOCKERS)('a request stands still by %s before its answer', async (how) => {
  const program = await start();
  const { body, took } = await ask(program, `/block?how=${how}&ms=${LONG}`);
  expect(body).toBe(String(program.run.pid));
  expect(took).toBeGreaterThanOrEqual(LONG - 1);
});

test.each(BLOCKERS)('the desk makes it stand still by %s', async (how) => {
  const program = await start();
  await ask(program);
  program.desk.workers()[0]?.block(how, LONG);
  // Asked again and again, the request that falls into the time is answered after it.
  let longest = 0;
  await until('a request had to wait', async () => {
    longest = Math.max(longest, (await ask(program)).took);
    return longest > LONG / 2;
  });
});

test('every request takes as long as it is told, at first and later', async () => {
  const program = await start({ BENCH_SERVICE_MS: String(LONG) });
  expect((await ask(program)).took).toBeGreaterThanOrEqual(LONG - 1);
  program.desk.workers()[0]?.serveIn(0);
  await until('it is quick again', async () => (await ask(program)).took < LONG);
  program.desk.workers()[0]?.serveIn(LONG);
  await until('it is slow again', async () => (await ask(program)).took >= LONG - 1);
});

test('speaks lines over TCP, however they come', async () => {
  const program = await start({ BENCH_PROTOCOL: 'tcp' });
  const id = String(program.run.pid);
  const socket = connect(program.port, '127.0.0.1').setEncoding('utf8');
  ends.push(() => socket.destroy());
  let told = '';
  socket.on('data', (text: string) => {
    told += text;
  });
  socket.write('/\n/block?how=sp');
  await until('the first is answered', () => told === `${id}\n`);
  const began = performance.now();
  socket.write(`in&ms=${LONG}\n/\n`);
  await until('all are answered', () => told === `${id}\n`.repeat(3));
  expect(performance.now() - began).toBeGreaterThanOrEqual(LONG - 1);
});

test.each(['SIGTERM', 'SIGINT'] as const)('%s lets it finish what it has, and no more', async (signal) => {
  const program = await start();
  const kept = new Agent({ keepAlive: true });
  ends.push(() => kept.destroy());
  await ask(program, '/', kept);
  const last = ask(program, `/block?how=exec-sync&ms=${LONG}`);
  // It waits for the command of that request, so the signal is dealt with after its answer.
  await until('it is at the last request', () => treeOf(program.run.pid).length > 1);
  program.run.child.kill(signal);
  expect((await last).body).toBe(String(program.run.pid));
  expect(await program.run.ended).toEqual([0, null]);
  expect(program.desk.workers()).toEqual([]);
  await expect(ask(program)).rejects.toThrow('ECONNREFUSED');
});

test('says at once when it cannot serve', async () => {
  const run = new Run(process.execPath, [PROGRAM], { PORT: '1', HOST: '203.0.113.1' });
  const [code] = await run.ended;
  expect(code).not.toBe(0);
  expect(run.stderr).toMatch(/EADDRNOTAVAIL|EACCES/);
});
