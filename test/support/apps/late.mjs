// Does not listen before it is told to; until then something else keeps it busy.
import { createServer } from 'node:http';
import { handle, listening } from './control.mjs';

process.on('message', async ({ order }) => {
  const { address } = await listening(createServer(handle), process.env.PORT);
  process.send({ order, result: address() });
});
process.send('up');
