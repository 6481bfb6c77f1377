import { createServer } from 'node:http';
import { handle, listening, run } from './control.mjs';

await run((port) => listening(createServer(handle), port));
