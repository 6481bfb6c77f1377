/** A line on a terminal that tells how far a benchmark is; nothing where stderr is a file. */

const ERASE = '\r\x1b[K';

/** `done`: 0 to 1; at 1 the line goes away. */
export function showProgress(done: number, what = ''): void {
  if (!process.stderr.isTTY) return;
  const line = `measuring: ${Math.floor(done * 100)} %${what && ` · ${what}`}`;
  process.stderr.write(done < 1 ? ERASE + line.slice(0, (process.stderr.columns ?? 80) - 1) : ERASE);
}

export function eraseProgress(): void {
  if (process.stderr.isTTY) process.stderr.write(ERASE);
}
