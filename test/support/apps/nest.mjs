// The decorators are applied by hand, as a compiler would have written it.
import 'reflect-metadata';
import { Body, Controller, Get, HttpCode, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { run, who } from './control.mjs';

class AppController {
  tell() {
    return who();
  }

  echo(body) {
    return { ...who(), body };
  }
}

function decorate(name, ...decorators) {
  const descriptor = Object.getOwnPropertyDescriptor(AppController.prototype, name);
  for (const each of decorators) each(AppController.prototype, name, descriptor);
}
decorate('tell', Get());
decorate('echo', Post(), HttpCode(200));
Body()(AppController.prototype, 'echo', 0);
Reflect.defineMetadata('design:paramtypes', [Object], AppController.prototype, 'echo');
Controller()(AppController);

class AppModule {}
Module({ controllers: [AppController] })(AppModule);

await run(async (port) => {
  const app = await NestFactory.create(AppModule, { logger: false });
  await app.listen(port);
  return { address: () => app.getHttpServer().address(), close: () => app.close() };
});
