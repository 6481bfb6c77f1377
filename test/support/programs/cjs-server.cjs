// The same as a CommonJS program, by another call of listen().
'use strict';
const http = require('node:http');

if (require.main !== module) throw new Error('not started as the main program');

http
  .createServer((_request, response) => {
    response.setHeader('connection', 'close');
    response.end(JSON.stringify({ pid: process.pid, slot: process.env.SPILLWAY_SLOT }));
  })
  .listen({ port: Number(process.env.PORT), host: '127.0.0.1' });
