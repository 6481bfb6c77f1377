/** Text for the terminal. */

/** Breaks text between words into lines of at most `width` columns; a longer word stays whole. */
export function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line !== undefined && line.length + 1 + word.length <= width)
      lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}

/** Columns of the terminal behind a stream; 80 where there is none. */
export function columnsOf(stream: { isTTY?: boolean; columns?: number }): number {
  return (stream.isTTY && stream.columns) || 80;
}

/** Milliseconds as people say them, in one or two units: `850 ms`, `4.2 s`, `3m 20s`, `2h 5m`, `12d 3h`. */
export function aboutTime(milliseconds: number): string {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const two = (large: number, small: number, names: string) => `${large}${names[0]} ${small}${names[1]}`;
  if (whole < 3600) return two(Math.floor(whole / 60), whole % 60, 'ms');
  const minutes = Math.floor(whole / 60);
  if (minutes < 24 * 60) return two(Math.floor(minutes / 60), minutes % 60, 'hm');
  return two(Math.floor(minutes / (24 * 60)), Math.floor(minutes / 60) % 24, 'dh');
}

/** Bytes as people say them: `512 B`, `38.2 MB`, with units of 1024. */
export function aboutSize(bytes: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let [value, unit] = [bytes, 0];
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** `1 worker`, `2 workers`. */
export function counted(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? '' : 's'}`;
}
