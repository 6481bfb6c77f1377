/** Text in lines. Pure. */

/** In lines of at most `width` characters, broken between words (and within one that is longer than a line). */
export function wrap(text: string, width: number, indent = ''): string[] {
  const lines: string[] = [];
  for (const paragraph of text.split('\n')) {
    let line = '';
    for (const whole of paragraph.split(/\s+/).filter((word) => word !== '')) {
      let word = whole;
      const start = lines.length === 0 ? '' : indent;
      if (line !== '' && line.length + 1 + word.length <= width) {
        line += ` ${word}`;
        continue;
      }
      if (line !== '') lines.push(line);
      line = `${line === '' ? start : indent}${word}`;
      while (line.length > width && width > indent.length) {
        lines.push(line.slice(0, width));
        word = line.slice(width);
        line = `${indent}${word}`;
      }
    }
    if (line !== '') lines.push(line);
  }
  return lines;
}

/** On one line whatever happens; what does not fit is cut. */
export function cut(text: string, width: number): string {
  return text.length <= width ? text : `${text.slice(0, Math.max(0, width - 1))}…`;
}
