/** `spillway init` in a terminal: somebody answers, is told at once what will not do, and gets files that work. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { QUESTIONS } from '../../lib/cli/init/questions.js';
import { CLI, freePort, inTerminal, Run } from '../support/cli.js';
import { ask, endsBy } from '../support/service.js';
import { program } from '../support/serving.js';
import { until } from '../support/until.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spillway-init-'));
  writeFileSync(join(folder, 'app.mjs'), readFileSync(program('esm-server.mjs')));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const withoutSpaces = (text: string) => text.replace(/\s/g, '');

class Terminal {
  readonly run: Run;
  /** How much of what is on the screen has been read. */
  #read = 0;

  constructor() {
    this.run = inTerminal(`cd ${folder} && exec ${process.execPath} ${CLI} init`);
  }

  get screen(): string {
    return stripVTControlCharacters(this.run.stdout);
  }

  /** Wherever its lines are broken. */
  async sees(text: string): Promise<void> {
    const bare = withoutSpaces(text);
    const find = () => withoutSpaces(this.screen).indexOf(bare, this.#read);
    await until(`"${text}" appears in: ${this.screen}`, () => find() >= 0);
    this.#read = find() + bare.length;
  }

  type(text: string): void {
    this.run.child.stdin!.write(text);
  }
}

test('asks everything, refuses what will not do, and writes files by which the service starts', async () => {
  const port = String(await freePort());
  const answers: Partial<Record<string, string>> = {
    name: 'shop',
    host: '127.0.0.1',
    ports: port,
    instances: '2',
  };
  const terminal = new Terminal();
  await terminal.sees(QUESTIONS[0]!.text);
  terminal.type('\x15nowhere.mjs\r');
  await terminal.sees('there is no file');
  terminal.type('\x15app.mjs\r');
  for (const { name, text } of QUESTIONS.slice(1)) {
    await terminal.sees(text);
    const answer = answers[name];
    terminal.type(answer === undefined ? '\r' : `\x15${answer}\r`);
  }
  expect(await terminal.run.ended).toEqual([0, null]);
  expect(terminal.screen).toContain('npx spillway start');
  expect(terminal.screen).toContain('systemctl enable --now');
  expect(readdirSync(folder).sort()).toEqual(['app.mjs', 'shop.service', 'spillway.config.mjs']);

  const service = new Run('sh', ['-c', `cd ${folder} && exec ${process.execPath} ${CLI} start`], {
    XDG_RUNTIME_DIR: folder,
  });
  await until('it is ready', () => service.stderr.includes('shop is ready'));
  expect(await ask(Number(port))).toMatchObject({ slot: expect.stringMatching(/^[01]$/) });
  expect(await endsBy(service, () => service.child.kill('SIGTERM'))).toBe(0);
});

test.each([
  ['Ctrl-C', (terminal: Terminal) => terminal.type('\x03')],
  ['the end of the input', (terminal: Terminal) => terminal.run.child.stdin!.end()],
])('%s breaks it off, and nothing is written', async (_, breakOff) => {
  const terminal = new Terminal();
  await terminal.sees(QUESTIONS[0]!.text);
  breakOff(terminal);
  const [code] = await terminal.run.ended;
  expect(code).toBe(130);
  expect(terminal.screen).toContain('nothing was written');
  expect(terminal.screen).not.toContain('Error');
  expect(readdirSync(folder)).toEqual(['app.mjs']);
});

test('a config file that is there is not asked about', async () => {
  writeFileSync(join(folder, 'spillway.config.mjs'), 'export default {};');
  const terminal = new Terminal();
  expect(await terminal.run.ended).toEqual([2, null]);
  expect(terminal.screen).toContain('spillway.config.mjs is there already');
  expect(existsSync(join(folder, 'app.service'))).toBe(false);
});
