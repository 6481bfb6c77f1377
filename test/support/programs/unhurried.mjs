// Answers after 50 ms, in which it does nothing.
import { createServer } from 'node:http';

const WAIT = 50;

createServer((_request, response) => {
  setTimeout(() => response.end(JSON.stringify({ pid: process.pid })), WAIT);
}).listen(process.env.PORT);
