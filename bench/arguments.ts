/** Values of options. */
import { InvalidArgumentError } from 'commander';

export function wholeNumber(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d+$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`It takes an integer, ${least} to ${most}.`);
  };
}

/** Values between commas. */
export function listOf<T>(parse: (text: string) => T): (text: string) => T[] {
  return (text) => text.split(',').map((part) => parse(part.trim()));
}

/** One of several things by name. */
export function oneOf<T extends { name: string }>(all: readonly T[]): (text: string) => T {
  return (text) => {
    const found = all.find(({ name }) => name === text);
    if (found) return found;
    throw new InvalidArgumentError(`There are: ${all.map(({ name }) => name).join(', ')}.`);
  };
}
