import { announced, capture, mustRun, StepError } from './exec.mjs';
import { findHeader, findLibrary, findTool } from './toolchain.mjs';

/** The program that a variable of the environment names ("ccache g++" is ccache), or the usual one. */
const chosen = (variable, usual) => (process.env[variable] || usual).trim().split(/\s+/)[0];

/**
 * What Debian provides. Each entry is looked for by the thing itself, so that a compiler that came by another
 * way counts as well. `to` says for what it is needed: building the addon, or testing and linting on top of it.
 */
const NEEDS = [
  { package: 'g++', to: 'build', present: () => findTool(chosen('CXX', 'g++')) },
  { package: 'make', to: 'build', present: () => findTool(chosen('MAKE', 'make')) },
  { package: 'python3', to: 'build', present: () => findTool(chosen('PYTHON', 'python3')) },
  { package: 'clang', to: 'build', present: () => findTool(chosen('CLANG', 'clang')) },
  { package: 'bpftool', to: 'build', present: () => findTool('bpftool') },
  {
    package: 'libbpf-dev',
    to: 'build',
    present: () => findHeader('bpf/libbpf.h') && findHeader('bpf/bpf_helpers.h') && findLibrary('libbpf.a'),
  },
  {
    package: 'libelf-dev',
    to: 'build',
    present: () => findHeader('libelf.h') && findLibrary('libelf.a'),
  },
  { package: 'zlib1g-dev', to: 'build', present: () => findHeader('zlib.h') && findLibrary('libz.a') },
  { package: 'clang-format', to: 'test', present: () => findTool('clang-format') },
  { package: 'iproute2', to: 'test', present: () => findTool('ip') && findTool('tc') },
  { package: 'util-linux', to: 'test', present: () => findTool('setpriv') && findTool('unshare') },
];

/** The Debian packages that are missing for `purposes`, a list of 'build' and 'test'. */
export function missingPackages(purposes) {
  return NEEDS.filter((need) => purposes.includes(need.to) && !need.present()).map((need) => need.package);
}

/** The one command line that installs the packages, for whoever has to type it. */
function commandLine(packages) {
  const update = 'apt-get update';
  const install = `apt-get install -y --no-install-recommends ${packages.join(' ')}`;
  if (process.getuid() === 0) return `${update} && ${install}`;
  if (findTool('sudo')) return `sudo ${update} && sudo ${install}`;
  return `su -c '${update} && ${install}'`;
}

/** The error for packages that we cannot or must not install. */
export function missingError(packages) {
  const them = packages.join(', ');
  if (!findTool('apt-get')) {
    return new StepError(`needed and not found: what Debian calls ${them}`, {
      hint: `There is no apt-get here: install them with the tool of this system, then start again.`,
    });
  }
  return new StepError(`needed Debian packages are not installed: ${them}`, {
    hint: `Type this, then start again:\n\n  ${commandLine(packages)}\n`,
  });
}

/** Installs what is missing if we are root and apt is there; throws the StepError that tells what to type otherwise. */
export async function providePackages(purposes, held) {
  const missing = missingPackages(purposes);
  if (missing.length === 0) return;
  if (process.getuid() !== 0 || !findTool('apt-get')) throw missingError(missing);

  await announced(`installing the Debian packages ${missing.join(', ')}`, async () => {
    const options = {
      held,
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      hint: `Repair apt or install the packages yourself, then start again:\n\n  ${commandLine(missing)}\n`,
    };
    // Another apt may be at work on a machine that has just started.
    const patience = ['-o', 'DPkg::Lock::Timeout=300'];
    // One unreachable source of several makes this fail and need not matter: installing is what counts.
    const update = await capture('apt-get', [...patience, 'update'], options);
    const install = [...patience, 'install', '-y', '--no-install-recommends', ...missing];
    try {
      await mustRun('apt-get install', 'apt-get', install, options);
    } catch (error) {
      if (error instanceof StepError && update.status !== 0) error.log = `${update.output}${error.log}`;
      throw error;
    }
  });

  const still = missingPackages(purposes);
  if (still.length > 0) {
    throw new StepError(`installed, but what it should provide was not found: ${still.join(', ')}`, {
      hint: 'Check PATH and /usr/include; a CC, CXX, CLANG, MAKE or PYTHON variable must name a program that exists.',
    });
  }
}
