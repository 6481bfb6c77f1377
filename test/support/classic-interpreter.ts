/**
 * Runs classic BPF programs without a kernel, and checks what the kernel checks before it takes one
 * (`bpf_check_classic` in net/core/filter.c). Knows only the instructions that choosing a socket needs; the numbers
 * are linux/bpf_common.h's and are not shared with the code under test.
 */

export interface DecodedInstruction {
  code: number;
  jt: number;
  jf: number;
  k: number;
}

const RANDOM_LOAD = 0xfffff038;

/** What an instruction does to the accumulator; arithmetic is modulo 2³². */
const ARITHMETIC: Readonly<Record<number, (a: number, k: number) => number>> = {
  4: (a, k) => (a + k) >>> 0,
  20: (a, k) => (a - k) >>> 0,
  52: (a, k) => Math.floor(a / k),
  148: (a, k) => a % k,
};
const DIVISIONS = [52, 148];
const LOAD = 32;
const GOTO = 5;
const IF_AT_LEAST = 53;
const RETURN_K = 6;
const RETURN_A = 22;

export function decode(program: Uint32Array): DecodedInstruction[] {
  const instructions: DecodedInstruction[] = [];
  for (let at = 0; at < program.length; at += 2) {
    const head = program[at]!;
    instructions.push({ code: head >>> 16, jt: (head >>> 8) & 0xff, jf: head & 0xff, k: program[at + 1]! });
  }
  return instructions;
}

/** What is wrong with a program, one sentence per fault; an empty list when the kernel would take it. */
export function faultsOf(program: Uint32Array): string[] {
  const instructions = decode(program);
  const faults = instructions.flatMap((instruction, at) =>
    faultsOfOne(instruction, instructions.length - at - 2).map((fault) => `instruction ${at}: ${fault}`),
  );
  if (instructions.length < 1 || instructions.length > 4096)
    faults.push(`${instructions.length} instructions`);
  const last = instructions.at(-1)?.code;
  if (last !== RETURN_K && last !== RETURN_A) faults.push('the last instruction is not a return');
  return faults;
}

/** `farthest` is the largest offset that still leads to an instruction. Offsets have no sign: all jumps are forward. */
function faultsOfOne({ code, jt, jf, k }: DecodedInstruction, farthest: number): string[] {
  if (code === IF_AT_LEAST) return Math.max(jt, jf) > farthest ? ['jumps out of the program'] : [];
  if (jt !== 0 || jf !== 0) return ['has jump offsets, but is no conditional jump'];
  if (code === GOTO) return k > farthest ? ['jumps out of the program'] : [];
  if (code === LOAD) return k === RANDOM_LOAD ? [] : ['loads something other than a random number'];
  if (DIVISIONS.includes(code)) return k === 0 ? ['divides by zero'] : [];
  return code in ARITHMETIC || code === RETURN_K || code === RETURN_A ? [] : [`unknown code ${code}`];
}

/** Runs a program for which {@link faultsOf} finds nothing; `random` is what the kernel's random number would be. */
export function run(instructions: readonly DecodedInstruction[], random: number): number {
  let accumulator = 0;
  for (let at = 0; ; at++) {
    const { code, jt, jf, k } = instructions[at]!;
    if (code === RETURN_K) return k;
    if (code === RETURN_A) return accumulator;
    if (code === LOAD) accumulator = random;
    else if (code === GOTO) at += k;
    else if (code === IF_AT_LEAST) at += accumulator >= k ? jt : jf;
    else accumulator = ARITHMETIC[code]!(accumulator, k);
  }
}
