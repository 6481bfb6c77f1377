import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { handle, listening, run, who } from './control.mjs';

await run((port) => {
  const server = createServer(handle);
  // Long polling would need all requests of a session to reach one worker.
  new Server(server, { transports: ['websocket'] }).on('connection', (socket) => {
    socket.on('echo', (body, answer) => answer({ ...who(), body }));
  });
  return listening(server, port);
});
