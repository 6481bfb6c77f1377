// A web server that also wants a UDP port, and a UDP socket without one as every name query has it.
import { createSocket } from 'node:dgram';
import { createServer } from 'node:http';
import { listening, who } from './control.mjs';

const bound = await new Promise((resolve) => {
  const socket = createSocket('udp4');
  socket.on('error', ({ code, message }) => resolve({ code, message }));
  socket.bind(Number(process.env.PORT), '127.0.0.1', () => resolve({ code: null }));
});
const sent = await new Promise((resolve) => {
  const socket = createSocket('udp4');
  socket.on('error', ({ code }) => resolve(code));
  socket.send('x', 9, '127.0.0.1', (error) => resolve(error?.code ?? null));
});
await listening(
  createServer((_request, response) => response.end(JSON.stringify({ ...who(), bound, sent }))),
  process.env.PORT,
);
