/**
 * Opens groups of every selector, with connections in their queues, and then ends in the way it is asked to, or is
 * ended. Runs as a program (the way as its argument) and as a worker thread (the way as workerData). It uses the
 * compiled library, as any program does.
 */
import { connect } from 'node:net';
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { SocketGroup } from '../../dist/lib/group/group.js';

const way = isMainThread ? process.argv[2] : workerData;
const groups = [];

if (way === 'limit') await meetTheLimit();
else await hold();

async function hold() {
  for (const selector of ['ebpf', 'cbpf', 'none']) {
    const group = await SocketGroup.open({ host: '127.0.0.1', sockets: 3, selector });
    groups.push(group);
    for (let count = 0; count < 4; count++) await queueOne(group.address.port);
  }
  // A change of the selector replaces everything that is native in a group.
  const [first] = groups;
  first.setOption('selector', 'cbpf');
  first.setOption('selector', 'ebpf');
  parentPort?.postMessage('open');

  switch (way) {
    case 'fall off the end':
      break;
    case 'exit':
      process.exit(0);
      break;
    case 'throw':
      throw new Error('on purpose');
    case 'close':
      for (const group of groups) group.close();
      break;
    case 'stay':
      setInterval(() => groups.map((group) => group.stats()), 1);
      break;
  }
}

/** A connection that nobody accepts. */
function queueOne(port) {
  return new Promise((resolve, reject) => {
    const client = connect(port, '127.0.0.1', resolve);
    client.on('error', (error) => (groups.length > 0 ? resolve() : reject(error)));
    client.unref();
  });
}

/** Asks for more sockets than this process may have descriptors, and for a few afterwards. */
async function meetTheLimit() {
  const errors = [];
  for (const selector of ['ebpf', 'cbpf', 'none']) {
    for (const sockets of [200, 3]) {
      try {
        const group = await SocketGroup.open({ host: '127.0.0.1', sockets, selector });
        errors.push('none');
        group.close();
      } catch (error) {
        errors.push(error.code);
      }
    }
  }
  console.log(JSON.stringify(errors));
}
