// Listens, but not on the port it was told.
import { createServer } from 'node:http';

createServer().listen(Number(process.argv[2]), '127.0.0.1');
