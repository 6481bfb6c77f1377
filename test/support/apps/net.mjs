// Greets with who it is, then sends back what it is sent.
import { createServer } from 'node:net';
import { listening, run, who } from './control.mjs';

await run((port) => {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.write(`${JSON.stringify(who())}\n`);
    socket.pipe(socket);
  });
  return listening(server, port);
});
