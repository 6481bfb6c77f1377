// Says a number every millisecond, each one more than the one before; a request is answered with the next.
import { createServer } from 'node:http';

let number = 0;
setInterval(() => console.log('line', number++), 1);
createServer((_request, response) => response.end(String(number))).listen(process.env.PORT);
