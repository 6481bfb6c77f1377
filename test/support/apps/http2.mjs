// Without TLS, or with it when it is asked for.
import { createSecureServer, createServer } from 'node:http2';
import { handle, listening, run, tls } from './control.mjs';

const secure = process.argv[2] === 'secure';
const create = () => (secure ? createSecureServer(tls(), handle) : createServer(handle));
await run((port) => listening(create(), { port: Number(port) }));
