/** The tables of docs/config.md, made of those in the code. */
import { FAMILIAR, IGNORED, SETTING_NAMES, START_OPTIONS, UNSUPPORTED } from '../../lib/cli/start/options.js';

const cell = (text: string) => text.replaceAll('|', '\\|');
const code = (text: string) => `\`${text}\``;

function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}

export function keyTable(): string {
  return table(
    ['key', 'type and range', 'default', 'also called', 'on the command line', 'what it does'],
    SETTING_NAMES.map((name) => {
      const { kind, default: initial, aliases = [], flag, text } = START_OPTIONS[name];
      return [code(name), kind.range, initial, aliases.map(code).join(', '), flag ? code(flag) : '', text];
    }),
  );
}

export function familiarTable(): string {
  return table(
    ['key', 'what becomes of it'],
    Object.entries(FAMILIAR).map(([key, text]) => [code(key), text]),
  );
}

export function unsupportedTable(): string {
  return table(
    ['key', 'why'],
    Object.entries(UNSUPPORTED).map(([key, why]) => [code(key), why]),
  );
}

export function ignoredList(): string {
  return IGNORED.map(code).join(', ');
}
