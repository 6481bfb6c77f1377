/** The files that a run writes. That they can be written is known before anything is measured. */
import { accessSync, closeSync, constants, mkdirSync, openSync, statSync, writeFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { packageRoot } from '../lib/native.js';
import { README, RESULTS } from './kept.js';
import { toHtml } from './report/html.js';
import { saveReport } from './report/results.js';
import type { Report } from './report/schema.js';
import { SCENARIOS } from './scenarios/index.js';

export interface OutputFiles {
  json: string | undefined;
  html: string;
  /** Whether results are kept in results/ and in the README. */
  save: boolean;
}

export class Outputs {
  readonly #files: OutputFiles;
  /** What was kept, relative to the package. */
  readonly kept = new Set<string>();

  /** @throws {Error} that names a file which cannot be written. */
  constructor(files: OutputFiles) {
    this.#files = files;
    for (const file of [files.json, files.html]) if (file !== undefined) checkWritable(file);
    if (files.save) {
      mkdirSync(RESULTS, { recursive: true });
      accessSync(RESULTS, constants.W_OK);
      accessSync(README, constants.W_OK);
    }
  }

  /**
   * Writes what is there, after every scenario: whatever ends the run, those before it are not lost. Returns what could
   * not be written, and why; each is tried for itself.
   *
   * @param report with all scenarios so far, the newest last.
   */
  write(report: Report): string[] {
    const { json, html, save } = this.#files;
    const failures: string[] = [];
    const attempt = (what: string, write: () => void) => {
      try {
        write();
      } catch (error) {
        failures.push(`${what}: ${(error as Error).message}`);
      }
    };
    if (json !== undefined) attempt(json, () => writeFileSync(json, `${JSON.stringify(report)}\n`));
    const newest = report.scenarios.slice(-1);
    if (save && newest.length > 0) {
      attempt('bench/results', () => {
        const files = saveReport({ ...report, scenarios: newest }, RESULTS, {
          readme: README,
          renewal: 'npm run bench -- --save',
          order: SCENARIOS.map(({ name }) => name),
        });
        for (const file of files) this.kept.add(relative(packageRoot, file));
      });
    }
    attempt(html, () => writeFileSync(html, toHtml([report])));
    return failures;
  }
}

/** An existing file keeps its content: what is in it is worth something until there is something newer. */
function checkWritable(file: string): void {
  mkdirSync(dirname(resolve(file)), { recursive: true });
  closeSync(openSync(file, 'a'));
  if (statSync(file).isDirectory()) throw new Error(`${file} is a folder`);
}
