/**
 * Writes classic BPF programs that choose a listener of a reuseport group at random, by weight
 * (SO_ATTACH_REUSEPORT_CBPF, socket(7); no privilege needed). What such a program returns is an index into the group
 * in the order in which its sockets began to listen; when a socket leaves, the last one takes its index
 * (net/core/sock_reuseport.c).
 *
 * Three steps: entries become {@link Segment}s of the numbers from 0 to the sum of all weights, segments become a
 * balanced {@link Tree} of comparisons, and the tree becomes instructions, innermost first, so that the length of
 * whatever a jump skips is known when the jump is written.
 */

/** A socket to choose from: its index in the group and its share in the sum of all weights. */
export interface ClassicEntry {
  index: number;
  weight: number;
}

/**
 * An index that no group has. The kernel does not drop a connection whose program returns an index out of range: it
 * falls back to its own choice, the hash of addresses and ports over *all* sockets of the group, including those that
 * the program leaves out (`run_bpf_filter` and its callers in net/core/sock_reuseport.c). So a program that names
 * sockets which have left does no harm beyond that, and a program can ask for the hash by returning this.
 */
export const INDEX_OF_NO_SOCKET = 0xffff_ffff;

/** Instructions a classic program may have (BPF_MAXINSNS of linux/bpf_common.h). */
export const MAX_INSTRUCTIONS = 4096;

/** Numbers from `start` on: the first `weight` of them belong to index `first`, the next to `first + 1`, and so on. */
interface Segment {
  start: number;
  first: number;
  count: number;
  weight: number;
}

/** Numbers below `bound` are decided by `below`, all others by `above`. */
interface Branch {
  bound: number;
  below: Tree;
  above: Tree;
}

type Tree = Segment | Branch;

/** The two words of one instruction. */
type Instruction = readonly [head: number, k: number];

/**
 * Codes of the instructions in use (linux/bpf_common.h, linux/filter.h). A is the accumulator, X the index register, k
 * the second word.
 */
const LOAD_WORD = 0x20; // BPF_LD | BPF_W | BPF_ABS
const LOAD_BYTE = 0x30; // BPF_LD | BPF_B | BPF_ABS
const LOAD_BYTE_AFTER_X = 0x50; // BPF_LD | BPF_B | BPF_IND
const LOAD_X_WITH_HEADER_LENGTH = 0xb1; // BPF_LDX | BPF_B | BPF_MSH: 4 × the low half of the byte
const SHIFT_RIGHT = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const ADD = 0x04; // BPF_ALU | BPF_ADD | BPF_K
const SUBTRACT = 0x14; // BPF_ALU | BPF_SUB | BPF_K
const DIVIDE = 0x34; // BPF_ALU | BPF_DIV | BPF_K
const MODULO = 0x94; // BPF_ALU | BPF_MOD | BPF_K
const JUMP = 0x05; // BPF_JMP | BPF_JA
const JUMP_IF_AT_LEAST = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const JUMP_IF_EQUAL = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_IF_SET = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN_K = 0x06; // BPF_RET | BPF_K
const RETURN_A = 0x16; // BPF_RET | BPF_A

/** SKF_AD_OFF + SKF_AD_RANDOM: a load from this "offset" gives a random 32-bit number. */
const RANDOM_NUMBER = 0xffff_f000 + 56;

/** SKF_NET_OFF: "offsets" from here on count from the IP header. The data itself starts behind the TCP header. */
const IP_HEADER = 0xfff0_0000;
const IPV6_HEADER_BYTES = 40;
/** Where an IPv6 header names what follows it. */
const NEXT_HEADER = 6;
const TCP = 6;
/** Offset of the flags in a TCP header, and one of them. */
const FLAGS = 13;
const SYN = 0x02;

/** The farthest a conditional jump reaches: its offsets are bytes. */
const CONDITIONAL_REACH = 0xff;

/** A run of fewer indices takes no more instructions, and no division, when each index is a segment of its own. */
const SHORTEST_RUN = 3;

const MAX_U32 = 0xffff_ffff;

/**
 * Builds a program that returns one of the indices at random, each with its weight's share of the sum of all weights.
 * The kernel's random numbers are 32 bits wide, so that a share is off by up to sum/2³² of itself.
 *
 * The order of the entries does not matter, an index may be given more than once, and an entry of weight 0 is never
 * chosen. 1,024 entries make at most 2,052 instructions. The kernel translates them, and refuses a program (ENOMEM)
 * whose translation is longer than the sysctl net.core.optmem_max. The longest translation takes 24.1 KiB, where the
 * limit is 128 KiB by default; older kernels have 20 KiB, enough for 846 entries that cannot be taken together.
 *
 * @returns two words per instruction: code << 16 | jt << 8 | jf, and k.
 * @throws {RangeError} when no entry has a weight, an index or weight is not a whole number of 32 bits, the sum of all
 *   weights is wider than that, or the program would be longer than {@link MAX_INSTRUCTIONS}.
 */
export function buildClassicProgram(entries: readonly ClassicEntry[]): Uint32Array {
  return encode(choice(entries));
}

/**
 * Builds a program that leads every SYN to the gate, an index of the group as well, and chooses among the entries for
 * everything else that meets a listener: the last ACK of a client that was answered with a SYN cookie, and strays.
 * Where TCP does not follow the IPv6 header at once, nobody looks further: that goes to the gate too. It has 11
 * instructions more than that of {@link buildClassicProgram}, and the same limits.
 *
 * @throws {RangeError} as {@link buildClassicProgram} does.
 */
export function buildRefusingProgram(entries: readonly ClassicEntry[], gate: number): Uint32Array {
  if (!isU32(gate)) throw new RangeError('the gate must be a whole number from 0 to 2³² − 1');
  return encode([...divertSyns(gate), ...choice(entries)]);
}

function choice(entries: readonly ClassicEntry[]): Instruction[] {
  const segments = segmentsOf(chooseable(entries));
  const tree = treeOf(segments);
  return isConstant(tree) ? assemble(tree) : [...randomBelow(endOf(segments)), ...assemble(tree)];
}

function encode(program: readonly Instruction[]): Uint32Array {
  if (program.length > MAX_INSTRUCTIONS) {
    throw new RangeError(
      `the program has ${program.length} instructions; the kernel takes ${MAX_INSTRUCTIONS}`,
    );
  }
  return Uint32Array.from(program.flat());
}

/**
 * Goes on behind itself unless the segment is a SYN. The version decides by itself what the packet is: a dual-stack
 * listener gets both. A load that fails would return index 0; the kernel has checked both headers before.
 */
function divertSyns(gate: number): Instruction[] {
  return [
    instruction(LOAD_BYTE, IP_HEADER),
    instruction(SHIFT_RIGHT, 4),
    instruction(JUMP_IF_EQUAL, 4, 0, 3),
    instruction(LOAD_X_WITH_HEADER_LENGTH, IP_HEADER),
    instruction(LOAD_BYTE_AFTER_X, IP_HEADER + FLAGS),
    instruction(JUMP, 3),
    instruction(LOAD_BYTE, IP_HEADER + NEXT_HEADER),
    instruction(JUMP_IF_EQUAL, TCP, 0, 2),
    instruction(LOAD_BYTE, IP_HEADER + IPV6_HEADER_BYTES + FLAGS),
    instruction(JUMP_IF_SET, SYN, 0, 1),
    instruction(RETURN_K, gate),
  ];
}

// Entries to segments.

/** The entries that have a share, by index: neighbours in the group become neighbours in the list. */
function chooseable(entries: readonly ClassicEntry[]): ClassicEntry[] {
  if (!entries.every(({ index, weight }) => isU32(index) && isU32(weight))) {
    throw new RangeError('every index and weight must be a whole number from 0 to 2³² − 1');
  }
  const chosen = entries.filter(({ weight }) => weight > 0).sort((a, b) => a.index - b.index);
  if (chosen.length === 0) throw new RangeError('there must be at least one entry with a weight above 0');
  return chosen;
}

function isU32(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= MAX_U32;
}

function segmentsOf(entries: readonly ClassicEntry[]): Segment[] {
  const segments: Segment[] = [];
  for (const run of runsOf(entries)) {
    const parts = run.length < SHORTEST_RUN ? run.map((entry) => [entry]) : [run];
    for (const part of parts) {
      const { index: first, weight } = part[0]!;
      segments.push({ start: endOf(segments), first, count: part.length, weight });
    }
  }
  if (endOf(segments) > MAX_U32) throw new RangeError('the sum of all weights must be below 2³²');
  return segments;
}

/** Groups entries of equal weight whose indices follow one another. */
function runsOf(entries: readonly ClassicEntry[]): ClassicEntry[][] {
  const runs: ClassicEntry[][] = [];
  for (const entry of entries) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    if (last && last.index + 1 === entry.index && last.weight === entry.weight) run!.push(entry);
    else runs.push([entry]);
  }
  return runs;
}

/** Where the next segment starts; behind the last one, the sum of all weights. */
function endOf(segments: readonly Segment[]): number {
  const last = segments.at(-1);
  return last ? last.start + last.count * last.weight : 0;
}

// Segments to a tree.

function treeOf(segments: readonly Segment[]): Tree {
  if (segments.length === 1) return segments[0]!;
  const middle = segments.length >> 1;
  return {
    bound: segments[middle]!.start,
    below: treeOf(segments.slice(0, middle)),
    above: treeOf(segments.slice(middle)),
  };
}

function isBranch(tree: Tree): tree is Branch {
  return 'bound' in tree;
}

function isConstant(tree: Tree): boolean {
  return !isBranch(tree) && tree.count === 1;
}

// A tree to instructions. All of them expect the number to decide about in the accumulator.

function assemble(tree: Tree): Instruction[] {
  if (isBranch(tree)) return branch(tree.bound, assemble(tree.below), assemble(tree.above));
  return tree.count === 1 ? [instruction(RETURN_K, tree.first)] : indexInRun(tree);
}

function randomBelow(sum: number): Instruction[] {
  return [instruction(LOAD_WORD, RANDOM_NUMBER), instruction(MODULO, sum)];
}

function branch(bound: number, below: Instruction[], above: Instruction[]): Instruction[] {
  return [...skipIfAtLeast(bound, below.length), ...below, ...above];
}

function skipIfAtLeast(bound: number, distance: number): Instruction[] {
  if (distance <= CONDITIONAL_REACH) return [instruction(JUMP_IF_AT_LEAST, bound, distance, 0)];
  return [instruction(JUMP_IF_AT_LEAST, bound, 0, 1), instruction(JUMP, distance)];
}

/** first + (A − start) / weight, without the steps that would change nothing. */
function indexInRun({ start, first, weight }: Segment): Instruction[] {
  const steps: Instruction[] = [];
  if (start > 0) steps.push(instruction(SUBTRACT, start));
  if (weight > 1) steps.push(instruction(DIVIDE, weight));
  if (first > 0) steps.push(instruction(ADD, first));
  return [...steps, instruction(RETURN_A, 0)];
}

function instruction(code: number, k: number, ifTrue = 0, ifFalse = 0): Instruction {
  return [(code << 16) | (ifTrue << 8) | ifFalse, k];
}
