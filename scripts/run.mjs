import { pathToFileURL } from 'node:url';
import { at } from './project.mjs';
import { setUpOrExit } from './setup.mjs';

/** What can be started after set-up: `npm start`, `npm run doctor` and `npm run bench`. */
const PROGRAMS = {
  start: ['dist/lib/cli/main.js', 'demo'],
  doctor: ['dist/lib/cli/main.js', 'doctor'],
  bench: ['dist/bench/main.js'],
};

const [name, ...args] = process.argv.slice(2);
const program = PROGRAMS[name];
if (!program) {
  process.stderr.write(`usage: node scripts/run.mjs ${Object.keys(PROGRAMS).join('|')} [arguments]\n`);
  process.exit(2);
}

await setUpOrExit();
// In this process: signals, the terminal and the exit code are then the program's own.
const [file, ...first] = [at(program[0]), ...program.slice(1)];
process.argv = [process.execPath, file, ...first, ...args];
await import(pathToFileURL(file).href);
