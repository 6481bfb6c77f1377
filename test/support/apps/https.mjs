import { createServer } from 'node:https';
import { handle, listening, run, tls } from './control.mjs';

await run((port) => listening(createServer(tls(), handle), port));
