import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const TRIPLETS = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };

/** Debian's name of this machine's architecture in /usr/lib and /usr/include. */
export const triplet = TRIPLETS[process.arch] ?? `${process.arch}-linux-gnu`;

/** libbpf's name of this machine's architecture (bpf_tracing.h), for __TARGET_ARCH_…; undefined where it has none. */
export const bpfArch = {
  x64: 'x86',
  arm64: 'arm64',
  arm: 'arm',
  riscv64: 'riscv',
  s390x: 's390',
  ppc64: 'powerpc',
  loong64: 'loongarch',
}[process.arch];

/** An ordinary user's PATH lacks the sbin folders, where Debian keeps bpftool, ip and tc. */
const FOLDERS = [...new Set([...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'])].filter(
  Boolean,
);

/** The absolute path of a program, or undefined. */
export function findTool(name) {
  if (name.includes('/')) return isProgram(name) ? name : undefined;
  return FOLDERS.map((folder) => join(folder, name)).find(isProgram);
}

function isProgram(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

export function findLibrary(name) {
  return [`/usr/lib/${triplet}`, '/usr/lib64', '/usr/lib', '/usr/local/lib64', '/usr/local/lib']
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));
}

export function findHeader(name) {
  return ['/usr/include', `/usr/include/${triplet}`, '/usr/local/include']
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));
}
