// Does not end when it is asked to, nor when its server has been closed.
import { createServer } from 'node:http';

process.on('SIGTERM', () => process.send('I stay'));
setInterval(() => {}, 60_000);
createServer((_request, response) => response.end('still here')).listen(process.env.PORT);
