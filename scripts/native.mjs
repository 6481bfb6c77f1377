import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, dirname, extname, join } from 'node:path';
import { announced, mustRun, StepError } from './exec.mjs';
import { at, filesBelow, fingerprint, readStamp, removeStamp, stampHolds, writeStamp } from './project.mjs';

/** The Node that the addon was made for: another one needs a new build from the ground up. */
const RUNTIME = `${process.version} ${process.platform} ${process.arch} abi ${process.versions.modules}`;

/** A build that was killed may have left half an object file that make believes to be complete. */
const STARTED = 'native.started';

const isNativeTest = (file) => ['.c', '.cc', '.h'].includes(extname(file));

function inputs() {
  const flags = ['CC', 'CXX', 'CLANG', 'CFLAGS', 'CXXFLAGS', 'CPPFLAGS', 'LDFLAGS'].map(
    (name) => process.env[name] ?? '',
  );
  const files = [
    ...filesBelow([
      'binding.gyp',
      'native',
      'bench/native',
      'scripts/build-bpf.mjs',
      'scripts/toolchain.mjs',
    ]),
    ...filesBelow(['test'], isNativeTest),
  ];
  return fingerprint(files, RUNTIME, flags, addonApiVersion());
}

function addonApiVersion() {
  try {
    return createRequire(import.meta.url)('node-addon-api/package.json').version;
  } catch {
    return 'not installed';
  }
}

/** The step that turns C++ and BPF sources into build/Release; needs the Debian packages and the npm packages. */
export const nativeStep = {
  isFresh: () => stampHolds(readStamp('native'), inputs()),

  async run(held) {
    await announced('building the addon', async () => {
      const before = inputs();
      const last = readStamp('native');
      const interrupted = readStamp(STARTED) !== undefined;
      if (interrupted || (last && last.runtime !== RUNTIME))
        rmSync(at('build', 'Release'), { recursive: true, force: true });
      writeStamp(STARTED, { by: process.pid });
      removeStamp('native');
      try {
        await gyp('configure', [], held);
        await gyp('build', ['--jobs', 'max'], held);
      } catch (error) {
        // The build ended by itself: make knows what it has completed.
        removeStamp(STARTED);
        throw error;
      }
      writeStamp('native', { inputs: before, outputs: products(), runtime: RUNTIME });
      removeStamp(STARTED);
    });
  },
};

/** Every file directly in build/Release is a product; objects and generated sources lie in its subfolders. */
function products() {
  const entries = existsSync(at('build', 'Release'))
    ? readdirSync(at('build', 'Release'), { withFileTypes: true })
    : [];
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join('build', 'Release', entry.name));
  if (!files.some((file) => file.endsWith('.node'))) {
    throw new StepError('the build ended without an error, but made no addon', {
      hint: 'Look at the targets in binding.gyp.',
    });
  }
  return files;
}

async function gyp(verb, args, held) {
  const nodeGyp = createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js');
  await mustRun(`node-gyp ${verb}`, process.execPath, [nodeGyp, verb, ...args, ...headers()], {
    held,
    // The actions of binding.gyp call `node`: it must be this one.
    env: { ...process.env, PATH: [dirname(process.execPath), process.env.PATH].join(delimiter) },
    hint:
      verb === 'configure'
        ? "If Node's headers could not be downloaded: set npm_config_nodedir to the folder that holds include/node."
        : 'The first error above names the file. If it follows a change of system packages: rm -rf build, then start again.',
  });
}

/** Headers that lie beside this Node are taken from there, so that nothing needs to be downloaded. */
function headers() {
  if (process.env.npm_config_nodedir) return [];
  const prefix = dirname(dirname(process.execPath));
  try {
    const version = readFileSync(join(prefix, 'include/node/node_version.h'), 'utf8');
    const major = /#define NODE_MAJOR_VERSION (\d+)/.exec(version)?.[1];
    return major === process.versions.node.split('.')[0] ? ['--nodedir', prefix] : [];
  } catch {
    return [];
  }
}
