/**
 * What the framework programs have in common, and what any program might do: it listens where PORT says, and its
 * parent can ask it to close its server and to listen again.
 */
import { readFileSync } from 'node:fs';

/**
 * @param {(port: string) => Promise<{ address(): unknown, close(): Promise<unknown> | unknown }>} start begins to
 *   listen; what it returns is asked again after each start.
 */
export async function run(start) {
  let server = await start(process.env.PORT);
  const orders = {
    address: () => server.address(),
    close: () => server.close().then(() => ({})),
    listen: async () => {
      server = await start(process.env.PORT);
      return server.address();
    },
  };
  process.on('message', async ({ order }) => process.send({ order, result: await orders[order]?.() }));
}

/** Listens as Node's own servers do. */
export function listening(server, ...args) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(...args, () =>
      resolve({
        address: () => server.address(),
        close: () => new Promise((closed) => server.close(closed)),
      }),
    );
  });
}

/** Which of the processes this is. */
export function who() {
  return { pid: process.pid, slot: process.env.SPILLWAY_SLOT };
}

/** A key for localhost, made for these tests and of no other use. */
export function tls() {
  const file = (name) => readFileSync(new URL(`tls/${name}.pem`, import.meta.url));
  return { key: file('key'), cert: file('cert') };
}

/** Answers GET with who answered, POST with what was posted: for servers without a framework. */
export function handle(request, response) {
  let text = '';
  request.setEncoding('utf8');
  request.on('data', (chunk) => {
    text += chunk;
  });
  request.on('end', () => {
    const body = request.method === 'POST' ? JSON.parse(text) : undefined;
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ ...who(), body }));
  });
}
