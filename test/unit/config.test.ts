import { expect, test } from 'vitest';
import { interpretConfigs } from '../../lib/cli/start/config.js';
import { START_OPTIONS } from '../../lib/cli/start/options.js';
import type { SpillwayError } from '../../lib/errors.js';
import { named } from '../support/named.js';

const FILE = '/srv/shop/spillway.config.mjs';

const GOOD = [
  {
    what: 'own names',
    given: { script: 'a.js', port: 80, backlog: 9 },
    settings: { script: 'a.js', port: 80, backlog: 9 },
  },
  {
    what: 'familiar names',
    given: {
      script: 'a.js',
      max_memory_restart: '300M',
      kill_timeout: 1600,
      wait_ready: true,
      listen_timeout: '3s',
    },
    settings: { maxMemory: 300 * 2 ** 20, killTimeout: 1600, waitReady: true, startTimeout: 3000 },
  },
  {
    what: 'a list with one service',
    given: {
      apps: [{ script: 'a.js', min_uptime: '1h', autorestart: false, max_restarts: 3, restart_delay: 5 }],
    },
    settings: { minUptime: 3_600_000, autoRestart: false, maxRestarts: 3, restartDelay: 5 },
  },
  {
    what: 'arguments as one string',
    given: { script: 'a', args: `a "b c" 'd'\\ e` },
    settings: { args: ['a', 'b c', 'd e'] },
  },
  { what: 'arguments as a list', given: { script: 'a', args: ['a b', 3] }, settings: { args: ['a b', '3'] } },
  {
    what: 'node_args',
    given: { script: 'a', node_args: '--inspect --x=1' },
    settings: { nodeArgs: ['--inspect', '--x=1'] },
  },
  { what: 'interpreter none', given: { script: 'a', interpreter: 'none' }, settings: { exec: true } },
  {
    what: 'exec_mode fork is one worker',
    given: { script: 'a', exec_mode: 'fork' },
    settings: { instances: 1 },
  },
  {
    what: 'exec_mode cluster',
    given: { script: 'a', exec_mode: 'cluster', instances: 4 },
    settings: { instances: 4 },
  },
  { what: 'uid and gid', given: { script: 'a', uid: 'www', gid: 33 }, settings: { user: 'www:33' } },
  { what: 'uid alone', given: { script: 'a', uid: 1000 }, settings: { user: '1000' } },
  {
    what: 'variables, one of them taken away',
    given: { script: 'a', env: { A: 1, B: true, C: null } },
    settings: { env: { A: '1', B: 'true', C: undefined } },
  },
  {
    what: 'the variables of an environment',
    given: { script: 'a', env: { A: 'x', B: 'y' }, env_test: { B: 'z' } },
    settings: { env: { A: 'x', B: 'z' } },
    env: 'test',
  },
  {
    what: 'paths, relative to the file',
    given: { script: 'a', logs: 'l', out_file: '/o.log' },
    settings: { logs: '/srv/shop/l', outFile: '/o.log', cwd: '/srv/shop' },
  },
  {
    what: 'what asks for nothing',
    given: { script: 'a', watch: false, merge_logs: false, vizion: true, name: undefined },
    settings: { script: 'a' },
  },
  {
    what: 'several addresses',
    given: { script: 'a', listen: [80, '[::1]:81', 'localhost:82', '83'] },
    settings: { listen: [80, '[::1]:81', 'localhost:82', 83] },
  },
  {
    what: 'a socket option',
    given: { script: 'a', keepAlive: { idle: 1, interval: 2, count: 3 } },
    settings: { keepAlive: { idle: 1, interval: 2, count: 3 } },
  },
];

test.each(named(GOOD, ({ what }) => what))('understood: %s', (_, { given, settings, env }) => {
  const [config, ...others] = interpretConfigs(FILE, given, env);
  expect(others).toEqual([]);
  expect(config!.settings).toMatchObject(settings);
});

const BAD: { what: string; given: unknown; says: string; env?: string }[] = [
  { what: 'no object', given: 3, says: `${FILE}: a config file holds an object, not 3` },
  { what: 'a key that is none', given: { script: 'a', foo: 1 }, says: `${FILE}: foo: there is no such key` },
  {
    what: 'a slip',
    given: { script: 'a', killTimout: 1 },
    says: 'killTimout: there is no such key (did you mean killTimeout?)',
  },
  { what: 'other letter case', given: { script: 'a', MaxMemory: 1 }, says: '(did you mean maxMemory?)' },
  {
    what: 'a value out of range',
    given: { apps: [{ instances: 2000 }] },
    says: 'apps[0].instances: cannot be 2000; it takes: 1 to 1024',
  },
  {
    what: 'a variable that is none',
    given: { env: { A: {} } },
    says: 'env.A: cannot be {}; it takes: object of strings',
  },
  {
    what: 'a key twice',
    given: { maxMemory: 1, max_memory_restart: 2 },
    says: 'max_memory_restart: is another name of maxMemory, which is given as well',
  },
  {
    what: 'two aliases of one key',
    given: { node_args: 'a', interpreter_args: 'b' },
    says: 'is another name of node_args',
  },
  { what: 'user and uid', given: { user: 'a', uid: 1 }, says: 'uid: is another name of user' },
  { what: 'gid alone', given: { gid: 1 }, says: 'gid: needs uid' },
  { what: 'no service', given: { apps: [] }, says: 'apps: holds no service' },
  {
    what: 'services of one name',
    given: { services: [{ script: 'a.js' }, { script: 'b.js', name: 'a' }] },
    says: "services[1].name: 'a' is services[0] already",
  },
  {
    what: 'a port of two services',
    given: {
      services: [
        { script: 'a', port: 80 },
        { script: 'b', listen: ['127.0.0.1:80'] },
      ],
    },
    says: 'services[1].port: 80 is used by services[0] as well',
  },
  {
    what: 'fewer at most than at least',
    given: { instances: '8-2' },
    says: "instances: cannot be '8-2'",
  },
  {
    what: 'a service that is none',
    given: { apps: ['a.js'] },
    says: "apps[0]: a service is an object, not 'a.js'",
  },
  {
    what: 'something beside apps',
    given: { apps: [{}], port: 1 },
    says: 'port: beside `apps` there is nothing else',
  },
  { what: 'watching', given: { watch: ['src'] }, says: 'watch: is not supported: files are not watched' },
  {
    what: 'another interpreter',
    given: { interpreter: 'python3' },
    says: "interpreter: cannot be 'python3'; write script: 'python3', exec: true",
  },
  {
    what: 'fork with several',
    given: { exec_mode: 'fork', instances: 2 },
    says: "exec_mode: cannot be 'fork' with 2 instances",
  },
  { what: 'an unknown mode', given: { exec_mode: 'threads' }, says: "exec_mode: cannot be 'threads'" },
  { what: 'a quote that is not closed', given: { args: 'a "b' }, says: `args: cannot be 'a "b'` },
  { what: 'an address that is none', given: { listen: ['host'] }, says: "listen: cannot be [ 'host' ]" },
  {
    what: 'an environment that is not there',
    given: { env: {} },
    env: 'prod',
    says: 'env_prod: is not there',
  },
  { what: 'an environment with a value that is none', given: { env_x: 3 }, says: 'env_x: cannot be 3' },
];

test.each(named(BAD, ({ what }) => what))('refused: %s', (_, { given, says, env }) => {
  const read = () => interpretConfigs(FILE, given, env);
  expect(read).toThrow(says);
  try {
    read();
  } catch (error) {
    expect((error as SpillwayError).code).toBe('ERR_SPILLWAY_CONFIG');
  }
});

test('several services each have their own settings', () => {
  const services = [
    { script: 'a.js', port: 80, instances: 2 },
    { script: 'b.js', port: 81, instances: { min: 1, max: 4 }, maxConnections: 10, overflow: 'wait' },
    { script: 'c.js', listen: ['127.0.0.1:82'] },
    { script: 'd.js', listen: ['127.0.0.3:82'], port: 0 },
  ];
  const configs = interpretConfigs(FILE, { services });
  expect(configs.map(({ settings }) => settings)).toMatchObject([
    { script: 'a.js', port: 80, instances: 2 },
    { script: 'b.js', instances: { min: 1, max: 4 }, maxConnections: 10 },
    { script: 'c.js' },
    { script: 'd.js' },
  ]);
  expect(configs.map(({ place }) => place)).toEqual([0, 1, 2, 3].map((index) => `services[${index}].`));
});

test('problems of all services are told together', () => {
  const read = () =>
    interpretConfigs(FILE, {
      services: [{ script: 'a', foo: 1 }, { script: 'b', port: 'x' }, { script: 'c' }],
    });
  expect(read).toThrow(/services\[0\]\.foo: there is no such key.*\n.*services\[1\]\.port: cannot be 'x'/);
});

test('several problems are told together', () => {
  const read = () => interpretConfigs(FILE, { script: 'a', foo: 1, port: 'x' });
  expect(read).toThrow(/: foo: there is no such key.*\n.*: port: cannot be 'x'/);
});

test('no name stands for two keys', () => {
  const names = Object.entries(START_OPTIONS).flatMap(([name, { aliases = [] }]) => [name, ...aliases]);
  expect(new Set(names).size).toBe(names.length);
});
