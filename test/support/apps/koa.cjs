// As a CommonJS program.
'use strict';
const { createServer } = require('node:http');
const Koa = require('koa');

async function main() {
  const { listening, run, who } = await import('./control.mjs');
  await run((port) => {
    const app = new Koa();
    app.use(async (context) => {
      context.body = { ...who(), body: context.method === 'POST' ? await bodyOf(context.req) : undefined };
    });
    return listening(createServer(app.callback()), port);
  });
}

async function bodyOf(request) {
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) text += chunk;
  return JSON.parse(text);
}

main();
