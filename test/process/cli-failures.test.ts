/** Starts that fail: a message that helps, the right exit code, and nothing left. */
import { readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { describe, expect, test } from 'vitest';
import { CLI, descendants, freePort, Run } from '../support/cli.js';
import { named } from '../support/named.js';
import {
  app,
  call,
  complains,
  ending,
  environment,
  file,
  here,
  run,
  sockets,
  started,
  status,
} from '../support/service.js';
import { children } from '../support/serving.js';

interface Case {
  what: string;
  files?: Record<string, string>;
  args: string[];
  code: number;
  says: (string | RegExp)[];
}

const CASES: Case[] = [
  {
    what: 'a program that throws at its start',
    files: { 'throws.mjs': 'throw new Error("out of luck");' },
    args: ['throws.mjs', '-i', '2'],
    code: 3,
    says: [
      /^[01] \| Error: out of luck/m,
      /^spillway: worker \d .*exited with code 1/m,
      /ERR_SPILLWAY_(WORKER|NO_WORKER)\n$/,
    ],
  },
  {
    what: 'a program with a syntax error',
    files: { 'wrong.mjs': 'const a = ;' },
    args: ['wrong.mjs'],
    code: 3,
    says: [/^0 \| SyntaxError: Unexpected token/m],
  },
  {
    what: 'a program that never listens',
    files: { 'idle.mjs': 'setInterval(() => {}, 1000);' },
    args: ['idle.mjs', '--start-timeout', '300ms'],
    code: 3,
    says: [/^spillway: worker 0 /m],
  },
  {
    what: 'no such script',
    args: ['nowhere.mjs'],
    code: 2,
    says: ['nowhere.mjs', 'there is no such file'],
  },
  {
    what: 'no such executable',
    args: ['no-such-program', '--exec', '-p', '0'],
    code: 1,
    says: ['ERR_SPILLWAY_SCRIPT_MISSING'],
  },
  { what: 'nothing to start', args: [], code: 2, says: ['no SCRIPT, no --config, and no spillway.config'] },
  {
    what: 'an unknown option',
    args: ['app.mjs', '--instnces', '2'],
    code: 2,
    says: ["unknown option '--instnces'"],
  },
  {
    what: 'a number that is none',
    args: ['app.mjs', '-i', 'few'],
    code: 2,
    says: ['--instances', '1 to 1024'],
  },
  { what: 'a port that is none', args: ['app.mjs', '-p', '99999'], code: 2, says: ['--port', '0 to 65535'] },
  { what: 'a variable without a value', args: ['app.mjs', '--env', 'A'], code: 2, says: ['KEY=VALUE'] },
  {
    what: 'a name with a slash',
    args: ['app.mjs', '--name', '../a'],
    code: 2,
    says: ["name cannot be '../a'"],
  },
  {
    what: 'an unknown user',
    args: ['app.mjs', '--user', 'no-such-user'],
    code: 2,
    says: ["there is no user 'no-such-user'"],
  },
  {
    what: 'a log folder that cannot be made',
    files: { afile: '' },
    args: ['app.mjs', '--logs', 'afile/logs'],
    code: 2,
    says: ['afile is no folder', 'ERR_SPILLWAY_OPTION_RANGE'],
  },
  // Node's own way of making folders would not come back from this one.
  {
    what: 'a log folder below /proc',
    args: ['app.mjs', '--logs', '/proc/logs'],
    code: 1,
    says: ['ERR_SPILLWAY_LOGS'],
  },
  {
    what: 'a config file that is no JSON',
    files: { 'spillway.config.json': '{\n  "script": "app.mjs",\n}' },
    args: [],
    code: 2,
    says: ['spillway.config.json:3:1: not JSON', 'ERR_SPILLWAY_CONFIG'],
  },
  {
    what: 'a config file with a syntax error',
    files: { 'spillway.config.mjs': 'export default {\n  script: ;\n}' },
    args: [],
    code: 2,
    says: ['spillway.config.mjs:2: SyntaxError'],
  },
  {
    what: 'a config file that throws',
    files: { 'shop.config.cjs': '\nmodule.exports = nothing;' },
    args: ['shop.config.cjs'],
    code: 2,
    says: ['shop.config.cjs:2:18: ReferenceError: nothing is not defined'],
  },
  {
    what: 'a config file with a function in it',
    files: { 'shop.config.mjs': 'export default { script: "app.mjs", hooks: { before() {} } };' },
    args: ['shop.config.mjs'],
    code: 2,
    says: ['shop.config.mjs: hooks.before: is a function, not plain data'],
  },
  {
    what: 'a config file that ends the process',
    files: { 'shop.config.mjs': 'process.exit(7);' },
    args: ['shop.config.mjs'],
    code: 2,
    says: ['shop.config.mjs ended with code 7'],
  },
  {
    what: 'a config file in TypeScript',
    files: {
      'spillway.config.ts': 'const n: number = 1;\nexport default { script: "app.mjs", instances: n };',
    },
    args: [],
    code: Number(process.versions.node.split('.')[0]) < 22 ? 2 : -1,
    says: ['is TypeScript, which this Node', '--import tsx'],
  },
  {
    what: 'a config file that is not there',
    args: ['-c', 'missing.json'],
    code: 2,
    says: ['the config file missing.json cannot be read: ENOENT'],
  },
  {
    what: 'a config file with a key that is none',
    files: { 'spillway.config.mjs': 'export default { apps: [{ script: "app.mjs", instnaces: 2 }] };' },
    args: [],
    code: 2,
    says: ['spillway.config.mjs: apps[0].instnaces: there is no such key (did you mean instances?)'],
  },
  {
    what: 'an environment of the config file that is not there',
    files: { 'spillway.config.mjs': 'export default { script: "app.mjs" };' },
    args: ['--env-name', 'production'],
    code: 2,
    says: ['env_production'],
  },
];

test.each(
  named(
    CASES.filter(({ code }) => code !== -1),
    ({ what }) => what,
  ),
)('%s', async (_, { files, args, code, says }) => {
  for (const [name, text] of Object.entries(files ?? {})) file(name, text);
  const before = children();
  const port = args.includes('-p') ? [] : ['-p', String(await freePort())];
  const result = await ending(inFolder(['start', ...args, ...port]));
  expect(result.code, result.stderr).toBe(code);
  for (const text of says) {
    if (typeof text === 'string') expect(result.stderr).toContain(text);
    else expect(result.stderr).toMatch(text);
  }
  expect(result.stderr).not.toMatch(/^ +at .*dist\/lib\/cli/m);
  expect(sockets()).toEqual([]);
  expect(children()).toEqual(before);
});

/** As a person would: from the folder the files are in. */
function inFolder(args: string[]): Run {
  return new Run('env', ['-C', here.folder, process.execPath, CLI, ...args], environment());
}

test('a port that somebody else holds: exit code 1, and the name is free again', async () => {
  const holder = createServer().listen(0);
  await new Promise((resolve) => holder.once('listening', resolve));
  const { port } = holder.address() as { port: number };
  try {
    const result = await call('start', app(), '-p', String(port));
    expect(result.code).toBe(1);
    expect(result.stderr).toMatch(new RegExp(`^spillway: .*:${port}`, 'm'));
    expect(result.stderr).toContain('ERR_SPILLWAY_ADDRESS_IN_USE');
    expect(sockets()).toEqual([]);
  } finally {
    await new Promise((resolve) => holder.close(resolve));
  }
});

test('a second master of the same name is told the process of the first, which goes on', async () => {
  const port = String(await freePort());
  const first = await started([app(), '-p', port]);
  const second = await call('start', app(), '-p', String(await freePort()));
  expect(second.code).toBe(1);
  expect(second.stderr).toContain(`a master named 'app' runs already: process ${first.pid}`);
  expect(second.stderr).toContain('ERR_SPILLWAY_NAME_TAKEN');
  expect((await call('status', 'app')).code).toBe(0);
});

test('of several starts of the same name at once exactly one wins', async () => {
  const runs = await Promise.all(
    [1, 2, 3, 4].map(async () => run(['start', app(), '-p', String(await freePort())])),
  );
  const losers = await Promise.all(
    runs.map((each) =>
      Promise.race([
        each.ended.then(([code]) => code),
        complains(each, / is ready after .*: 1 worker,/).then(() => 'serves'),
      ]),
    ),
  );
  expect(losers.toSorted()).toEqual([1, 1, 1, 'serves']);
});

describe('a crash loop', () => {
  test('ends with 3 after the restarts that were allowed, each with a longer delay', async () => {
    const script = file(
      'loop.mjs',
      `import { createServer } from 'node:http';
       createServer().listen(process.env.PORT, () => setTimeout(() => { throw new Error('again'); }, 20));`,
    );
    const options = ['--restart-delay', '20', '--max-restarts', '3', '--min-uptime', '5s'];
    const service = run(['start', script, '-p', String(await freePort()), ...options]);
    const { code, stderr } = await ending(service);
    expect(code, stderr).toBe(3);
    expect(
      [...stderr.matchAll(/is started again in (\d+) ms \(failure (\d)/g)].map(([, ms, n]) => [ms, n]),
    ).toEqual([
      ['20', '1'],
      ['40', '2'],
      ['80', '3'],
    ]);
    expect(stderr).toContain('is given up and not started again');
    expect(stderr).toContain('ERR_SPILLWAY_NO_WORKER');
    expect(sockets()).toEqual([]);
  });

  test('with one worker that fails again and again the others serve, and nothing piles up', async () => {
    const script = file(
      'short.mjs',
      `import { createServer } from 'node:http';
       import { existsSync } from 'node:fs';
       if (process.env.NODE_APP_INSTANCE === '1' && existsSync('${here.folder}/fail')) process.exit(1);
       createServer().listen(process.env.PORT);`,
    );
    const options = [
      '-i',
      '2',
      '--restart-delay',
      '0',
      '--max-restart-delay',
      '0',
      '--max-restarts',
      '1000000',
    ];
    const service = await started([script, '-p', String(await freePort()), ...options]);
    file('fail', '');
    process.kill((await status()).workers[1]?.pid as number, 'SIGKILL');
    await complains(service, 'failure 5 in a row');
    const { length } = readdirSync(`/proc/${service.pid}/fd`);
    await complains(service, 'failure 40 in a row');
    expect(readdirSync(`/proc/${service.pid}/fd`).length).toBeLessThan(length + 10);
    expect(descendants(service.pid).length).toBeLessThan(5);
    const { workers } = await status();
    expect(workers[0]).toMatchObject({ state: 'running', restarts: 0 });
    expect(workers[1]?.restarts).toBeGreaterThanOrEqual(40);
    expect(workers[1]?.reason).toContain('exited with code 1');
  });
});
