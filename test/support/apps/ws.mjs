import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { handle, listening, run, who } from './control.mjs';

await run((port) => {
  const server = createServer(handle);
  new WebSocketServer({ server }).on('connection', (socket) => {
    socket.on('message', (data) => socket.send(JSON.stringify({ ...who(), body: JSON.parse(data) })));
  });
  return listening(server, port);
});
