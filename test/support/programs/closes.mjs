// Serves one connection, as keeps.mjs greets, and ends with it.
import { createServer } from 'node:net';

const server = createServer((client) => {
  server.close();
  client.on('error', () => {});
  const greeting = { pid: process.pid, open: 1, at: String(process.hrtime.bigint()) };
  client.end(`${JSON.stringify(greeting)}\n`, () => process.exit(0));
});
server.listen(process.env.PORT);
