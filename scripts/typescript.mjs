import { chmodSync, existsSync, rmSync } from 'node:fs';
import { relative } from 'node:path';
import { announced, mustRun } from './exec.mjs';
import {
  at,
  filesBelow,
  fingerprint,
  readStamp,
  removeStamp,
  root,
  stampHolds,
  writeStamp,
} from './project.mjs';

const isSource = (file) => /\.[cm]?ts$/.test(file);

function inputs() {
  return fingerprint([
    ...filesBelow(['tsconfig.json', 'package-lock.json', 'package.json']),
    // The benchmark drives its connections with the tests' addon, so that file is compiled with it.
    ...filesBelow(['lib', 'bench', 'test/support/testing.ts'], isSource),
  ]);
}

/** The step that compiles lib and bench into dist; a file in dist whose source has gone is removed. */
export const typescriptStep = {
  isFresh: () => stampHolds(readStamp('typescript'), inputs()),

  async run(held) {
    await announced('compiling TypeScript', async () => {
      const before = inputs();
      removeStamp('typescript');
      const tsc = at('node_modules', 'typescript', 'bin', 'tsc');
      const output = await mustRun(
        'tsc',
        process.execPath,
        [tsc, '-p', 'tsconfig.json', '--listEmittedFiles', '--pretty', String(process.stderr.isTTY === true)],
        { held, hint: 'The sources do not compile; the messages above name file and line.' },
      );
      const emitted = [...output.matchAll(/^TSFILE: (.+)$/gm)].map(([, file]) => relative(root, file));
      const current = new Set(emitted);
      for (const file of filesBelow(['dist'])) {
        if (!current.has(relative(root, file)) && existsSync(file)) rmSync(file);
      }
      // The package's "bin": what is to be called by its name must be executable, and tsc does not care.
      chmodSync(at('dist', 'lib', 'cli', 'main.js'), 0o755);
      writeStamp('typescript', { inputs: before, outputs: emitted });
    });
  },
};
