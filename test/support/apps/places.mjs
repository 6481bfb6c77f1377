// Listens at every place its arguments name, each the options of one listen() as JSON, and says where that is.
import { createServer } from 'node:http';
import { handle, listening, run } from './control.mjs';

await run(async () => {
  const places = process.argv.slice(2).map((place) => JSON.parse(place));
  const servers = [];
  for (const place of places) servers.push(await listening(createServer(handle), place));
  return {
    address: () => servers.map((server) => server.address()),
    close: () => Promise.all(servers.map((server) => server.close())),
  };
});
