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
