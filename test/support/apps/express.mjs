import { once } from 'node:events';
import express from 'express';
import { run, who } from './control.mjs';

await run(async (port) => {
  const app = express();
  app.use(express.json());
  app.get('/', (_request, response) => response.json(who()));
  app.post('/', (request, response) => response.json({ ...who(), body: request.body }));
  const server = app.listen(port);
  await once(server, 'listening');
  return {
    address: () => server.address(),
    close: () => new Promise((closed) => server.close(closed)),
  };
});
