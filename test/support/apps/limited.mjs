// Takes one connection at a time, and tells its parent of every other one.
import { createServer } from 'node:net';

const server = createServer((socket) => socket.on('error', () => {}).write('in\n'));
server.maxConnections = 1;
server.on('drop', (dropped) => process.send({ order: 'drop', result: { localPort: dropped.localPort } }));
server.listen(process.env.PORT);
