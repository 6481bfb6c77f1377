/** `spillway init`: what answers are taken, and that the files it writes say what was answered. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { configText, unitText } from '../../lib/cli/init/files.js';
import { type Answers, problemWith, QUESTIONS, type QuestionName } from '../../lib/cli/init/questions.js';
import { interpretConfigs } from '../../lib/cli/start/config.js';
import { named } from '../support/named.js';

let folder: string;
let script: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'spillway-init-'));
  script = join(folder, 'shop.js');
  writeFileSync(script, '');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const answers = (more: Partial<Answers> = {}): Answers => ({
  script: 'shop.js',
  name: 'shop',
  host: '',
  ports: '8080',
  instances: 'max',
  'max-connections': '',
  overflow: 'drop',
  placement: '',
  monitor: 'no',
  'keeper-placement': '',
  logs: '',
  node: '/usr/bin/node',
  'node-args': '',
  'initial-heap': '',
  'max-heap': '',
  env: '',
  user: '',
  ...more,
});

/** What the config file says, read as it would be. */
async function settingsOf(given: Partial<Answers>) {
  const text = configText(answers(given));
  const file = join(folder, `config-${Math.random()}.mjs`);
  writeFileSync(file, text);
  const { default: value } = await import(file);
  return interpretConfigs(file, value)[0]!.settings;
}

const CHECKS: { name: QuestionName; good: string[]; bad: string[]; before?: Partial<Answers> }[] = [
  { name: 'script', good: [], bad: ['', '/no/such/file.js', '/'] },
  { name: 'name', good: ['shop', 'shop-2'], bad: ['', 'a/b', '..'] },
  { name: 'host', good: ['', '127.0.0.1', '::1', 'lo', 'example.org'], bad: ['a b', '$(x)'] },
  { name: 'ports', good: ['80', '80, 443', '0'], bad: ['', '80,80', '70000', 'http'] },
  { name: 'instances', good: ['4', 'max', '2-8'], bad: ['', '8-2', 'many'] },
  { name: 'max-connections', good: ['', '100'], bad: ['-1', 'all'] },
  { name: 'overflow', good: ['drop', 'reset', 'wait'], bad: ['', 'queue'] },
  { name: 'placement', good: ['', 'auto', '0,1,2-3', 'node0'], bad: ['x', '3-1'] },
  { name: 'monitor', good: ['yes', 'no'], bad: ['', 'maybe'] },
  { name: 'keeper-placement', good: ['', '0'], bad: ['x'], before: { monitor: 'yes' } },
  { name: 'keeper-placement', good: [''], bad: ['0'], before: { monitor: 'no' } },
  { name: 'logs', good: ['', '/tmp', '/tmp/new'], bad: ['/no/such/folder/at/all', '/etc/passwd'] },
  { name: 'node', good: [process.execPath], bad: ['', '/no/such/node', '/etc/passwd'] },
  { name: 'node-args', good: ['', '--inspect'], bad: ['a "b'] },
  { name: 'initial-heap', good: ['', '64'], bad: ['1', 'much'] },
  { name: 'max-heap', good: ['', '512'], bad: ['32'], before: { 'initial-heap': '64' } },
  { name: 'env', good: ['', 'A=1', 'A=1 B=x=y'], bad: ['A', '1=2'] },
  { name: 'user', good: ['', 'www', 'www:www'], bad: ['a b', 'a:b:c'] },
];

test.each(named(CHECKS, ({ name, before }) => `${name}${before ? ` after ${JSON.stringify(before)}` : ''}`))(
  'answers to %s',
  (_, { name, good, bad, before = {} }) => {
    const question = QUESTIONS.find((each) => each.name === name)!;
    for (const answer of good)
      expect([answer, problemWith(question, answer, before)]).toEqual([answer, undefined]);
    for (const answer of bad)
      expect([answer, typeof problemWith(question, answer, before)]).toEqual([answer, 'string']);
  },
);

test('every question has been looked at', () => {
  expect(new Set(CHECKS.map(({ name }) => name))).toEqual(new Set(QUESTIONS.map(({ name }) => name)));
});

test('a script that is there is taken', () => {
  expect(problemWith(QUESTIONS[0]!, script, {})).toBeUndefined();
});

describe('the config file', () => {
  test('says as little as was answered', async () => {
    const settings = await settingsOf({});
    expect(settings).toMatchObject({ name: 'shop', script: 'shop.js', port: 8080 });
    expect(settings).not.toHaveProperty('overflow');
    expect(settings).not.toHaveProperty('monitor');
  });

  test('says everything that was answered', async () => {
    const settings = await settingsOf({
      host: 'lo',
      ports: '80, 443',
      instances: '2-8',
      'max-connections': '100',
      overflow: 'wait',
      placement: '0,1',
      monitor: 'yes',
      'keeper-placement': '0',
      logs: '/tmp',
      'node-args': '--inspect --title="a b"',
      'initial-heap': '64',
      'max-heap': '512',
      env: "A=it's B=x=y",
    });
    expect(settings).toMatchObject({
      host: '127.0.0.1',
      port: 80,
      listen: ['127.0.0.1:443'],
      instances: { min: 2, max: 8 },
      maxConnections: 100,
      overflow: 'wait',
      placement: ['0', '1'],
      monitor: true,
      keeperPlacement: '0',
      logs: '/tmp',
      nodeArgs: ['--inspect', '--title=a b', '--initial-heap-size=64', '--max-old-space-size=512'],
      env: { A: "it's", B: 'x=y' },
    });
  });
});

describe('the unit', () => {
  const place = {
    config: '/srv/shop/spillway.config.mjs',
    cli: '/opt/spillway/main.js',
    folder: '/srv/shop',
  };
  const unit = (given: Partial<Answers> = {}) => unitText(answers(given), place).split('\n');

  test('gives no more capabilities than needed', () => {
    expect(unit()).toContain('CapabilityBoundingSet=CAP_BPF CAP_PERFMON');
    expect(unit({ ports: '8080, 443' })).toContain(
      'AmbientCapabilities=CAP_BPF CAP_PERFMON CAP_NET_BIND_SERVICE',
    );
  });

  test('lets systemd keep what the master has only where that is wanted', () => {
    expect(unit({ monitor: 'yes' })).toContain('FileDescriptorStoreMax=8192');
    expect(unit({ monitor: 'no' }).join()).not.toContain('FileDescriptorStore');
  });

  test('runs it as was answered', () => {
    expect(unit({ user: 'www:web', node: '/opt/my node/bin/node', logs: 'logs' })).toEqual(
      expect.arrayContaining([
        'User=www',
        'Group=web',
        'ExecStart="/opt/my node/bin/node" /opt/spillway/main.js start --config /srv/shop/spillway.config.mjs',
        'ReadWritePaths=/srv/shop/logs',
      ]),
    );
    expect(unit()).toContain('DynamicUser=yes');
  });
});
