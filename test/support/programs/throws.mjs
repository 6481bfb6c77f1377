// One worker fails at its start, the others serve.
import { createServer } from 'node:http';

if (process.env.SPILLWAY_SLOT === process.argv[2]) throw new Error('the database is not there');
createServer().listen(process.env.PORT);
