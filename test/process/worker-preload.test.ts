/** What the program, and what is loaded before it, find in a worker: what they would find alone. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { withoutPreload, withPreload } from '../../lib/serve/preload-option.js';
import { until } from '../support/until.js';
import { startWorker } from '../support/worker-harness.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spillway-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

describe('the main program', () => {
  test('in CommonJS is loaded as CommonJS', async () => {
    const script = file(
      'main.cjs',
      `process.on('uncaughtException', (error, origin) => process.send({ origin }));
      process.send({ seen: [module.parent, module.id, require.main === module, process.mainModule === module] });
      throw new Error('at the top');`,
    );
    const worker = await startWorker({ script });
    expect(await worker.hears('seen')).toEqual([null, '.', true, true]);
    expect(await worker.hears('origin')).toBe('uncaughtException');
    expect(worker.output).toBe('');
  });

  test('may be in a language that a hook of -r compiles', async () => {
    const hook = file(
      'hook.cjs',
      `require('module')._extensions['.foo'] = (module, path) =>
        module._compile(require('fs').readFileSync(path, 'utf8').replace('tells', 'process.send'), path);`,
    );
    const script = file('main.foo', 'tells({ compiled: true })');
    const worker = await startWorker({ script, execArgv: ['--require', hook] });
    expect(await worker.hears('compiled')).toBe(true);
  });

  test('may be an ES module that awaits', async () => {
    const script = file('main.mjs', 'await null; process.send({ main: import.meta.url });');
    const worker = await startWorker({ script });
    expect(await worker.hears('main')).toContain('main.mjs');
  });
});

describe('what NODE_OPTIONS loads', () => {
  test('finds nothing that is meant for the worker alone, and the variable as it was', async () => {
    const agent = file(
      'agent.cjs',
      `const names = Object.keys(process.env).filter((name) => /^(LISTEN_|SPILLWAY_WORKER)/.test(name));
      process.send({ names, options: process.env.NODE_OPTIONS });`,
    );
    const worker = await startWorker({
      program: '',
      env: { NODE_OPTIONS: `--no-deprecation -r ${agent}` },
    });
    expect(await worker.hears('options')).toBe(`--no-deprecation -r ${agent}`);
    expect(worker.told[0]).toMatchObject({ names: [] });
  });

  test('is nothing when it was nothing', async () => {
    const worker = await startWorker({
      program: "tell({ own: 'NODE_OPTIONS' in process.env });",
      env: { NODE_OPTIONS: undefined },
    });
    expect(await worker.hears('own')).toBe(false);
  });

  test('may have any name', () => {
    const odd = join(folder, 'a "b" \\c\\ d');
    mkdirSync(odd);
    const path = join(odd, 'first.cjs');
    writeFileSync(path, "console.log('first');");
    const second = file('second.cjs', "console.log('second');");
    const NODE_OPTIONS = withPreload(`--require ${second}`, path);
    const output = execFileSync(process.execPath, ['--eval', ''], {
      env: { ...process.env, NODE_OPTIONS },
      encoding: 'utf8',
    });
    expect(output).toBe('first\nsecond\n');
  });

  for (const options of [undefined, '', ' ', '--no-warnings', '--require "x y"']) {
    test(`comes back: ${JSON.stringify(options)}`, () => {
      expect(withoutPreload(withPreload(options, '/a b'), '/a b')).toBe(options);
      expect(withoutPreload(options, '/a b')).toBe(options);
      expect(withoutPreload(withPreload(options, '/other'), '/a b')).toBe(withPreload(options, '/other'));
    });
  }
});

test('a Node that may load no addons says so, and what to do', async () => {
  const worker = await startWorker({ program: '', execArgv: ['--no-addons'] });
  expect(await worker.exits()).toEqual({ code: 1, signal: null });
  await until('it has said why', () => worker.output.includes('leave out --no-addons'));
});

test('a Node that cannot require() ES modules says so, and what to do', async () => {
  const worker = await startWorker({ program: '', execArgv: ['--no-experimental-require-module'] });
  expect(await worker.exits()).toEqual({ code: 1, signal: null });
  await until('it has said why', () =>
    worker.output.includes('needs a Node that can require() ES modules: 20.19, 22.12 or later'),
  );
});

describe('a program that asks for its own machine alone', () => {
  const LISTENS = (host: string) => `
    import net from 'node:net';
    process.on('warning', ({ code, message, detail }) => tell({ code, text: message + detail }));
    net.createServer().listen(process.env.PORT, ${host}, () => setImmediate(() => tell({ listens: true })));`;

  for (const [host, address, how] of [
    ["'127.0.0.1'", '0.0.0.0', '--host 127.0.0.1'],
    ["'localhost'", '::', '--host 127.0.0.1'],
    ["'::1'", '::', '--host ::1'],
  ] as const) {
    test(`by ${host}, on ${address}, is served, and warned`, async () => {
      const worker = await startWorker({ declared: [{ address }], program: LISTENS(host) });
      await worker.says('listening');
      expect(await worker.hears('code')).toBe('SPILLWAY_ADDRESS');
      const { text } = worker.told.find(({ code }) => code) as { text: string };
      for (const part of [host.slice(1, -1), ` ${address}:`, how]) expect(text).toContain(part);
    });
  }

  for (const [host, address] of [
    ["'127.0.0.1'", '127.0.0.1'],
    ["'0.0.0.0'", '0.0.0.0'],
    ['undefined', '::'],
  ] as const) {
    test(`not by ${host}, on ${address}`, async () => {
      const worker = await startWorker({ declared: [{ address }], program: LISTENS(host) });
      await worker.hears('listens');
      expect(worker.told).toEqual([{ listens: true }]);
    });
  }
});
