// Does not end when it is asked to.
import { createServer } from 'node:http';

process.on('SIGTERM', () => process.send('I stay'));
createServer((_request, response) => response.end('still here')).listen(process.env.PORT);
