// In TypeScript. Without a host Fastify listens on every address of `localhost`.
import fastify from 'fastify';
import { run, who } from './control.mjs';

await run(async (port: string) => {
  const app = fastify({ forceCloseConnections: 'idle' });
  app.get('/', async () => who());
  app.post<{ Body: unknown }>('/', async ({ body }) => ({ ...who(), body }));
  await app.listen({ port: Number(port) });
  return { address: () => app.server.address(), close: () => app.close() };
});
