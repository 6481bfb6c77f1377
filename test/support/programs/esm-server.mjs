// An ordinary HTTP program. It knows nothing of Spillway.
import { createServer } from 'node:http';

const server = createServer((_request, response) => {
  response.setHeader('connection', 'close');
  response.end(JSON.stringify({ pid: process.pid, slot: process.env.SPILLWAY_SLOT }));
});

server.listen(process.env.PORT, () => {
  if (process.argv[2] === 'say') console.log(`listens on ${server.address().port}`);
});
