/** Something the person at the keyboard can mend: told without a stack, and the run ends with `exitCode`. */
export class BenchError extends Error {
  readonly hint: string;
  readonly exitCode: number;

  constructor(message: string, { hint, exitCode = 1 }: { hint: string; exitCode?: number }) {
    super(message);
    this.hint = hint;
    this.exitCode = exitCode;
  }
}

/** Exit code for a wrong command line. */
export const USAGE = 2;
