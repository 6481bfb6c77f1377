/**
 * Compiles a BPF program and embeds it into a C header (a libbpf skeleton):
 *
 *     node scripts/build-bpf.mjs <source.bpf.c> <output.skel.h> [name]
 *
 * `name` is the skeleton's C identifier, by default the source's name with `_` for every other character
 * (selector.bpf.c → selector_bpf). The object files stay beside the output. Called by binding.gyp.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { writeAtomically } from './project.mjs';
import { bpfArch, findTool, triplet } from './toolchain.mjs';

function fail(message) {
  process.stderr.write(`build-bpf: ${message}\n`);
  process.exit(1);
}

function tool(name, debianPackage) {
  return findTool(name) ?? fail(`${name} was not found; Debian has it in the package ${debianPackage}`);
}

function run(program, args, what) {
  const { status, signal, error, stdout } = spawnSync(program, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  });
  if (error) fail(`${program} could not be started: ${error.message}`);
  if (status !== 0) fail(`${what} failed (${signal ?? `exit ${status}`}): ${[program, ...args].join(' ')}`);
  return stdout;
}

const [source, output, givenName] = process.argv.slice(2);
if (!source?.endsWith('.bpf.c') || !output)
  fail('usage: build-bpf.mjs <source.bpf.c> <output.skel.h> [name]');
if (!bpfArch) fail(`libbpf has no name for the architecture ${process.arch}`);

const clang = tool(process.env.CLANG || 'clang', 'clang');
const bpftool = tool('bpftool', 'bpftool');

const stem = basename(source, '.c');
const name = givenName ?? stem.replace(/\W/g, '_');
const folder = dirname(resolve(output));
const compiled = resolve(folder, `${stem}.debug.o`);
const linked = resolve(folder, `${stem}.o`);
mkdirSync(folder, { recursive: true });

run(
  clang,
  [
    ...['-g', '-O2', '-Wall', '-Werror', '-target', 'bpf', '-mcpu=v3', `-D__TARGET_ARCH_${bpfArch}`],
    `-I${dirname(resolve(source))}`,
    // For the target bpf, clang does not look into Debian's folder of the machine, where asm/types.h is.
    `-I/usr/include/${triplet}`,
    ...['-c', source, '-o', compiled],
  ],
  'compiling',
);
// libbpf's linker keeps BTF and leaves the DWARF sections out, which would triple the size of the addon.
run(bpftool, ['gen', 'object', linked, compiled], 'linking');
writeAtomically(
  resolve(output),
  run(bpftool, ['gen', 'skeleton', linked, 'name', name], 'making the skeleton'),
);
