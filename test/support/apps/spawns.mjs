// Runs other programs; each tells which sockets it has and which of its variables are about listening.
import { exec, execFile, spawnSync } from 'node:child_process';
import { createServer } from 'node:http';
import { promisify } from 'node:util';
import { listening, who } from './control.mjs';

const LOOK = 'ls -l /proc/self/fd; env | grep -E "^(LISTEN_|SPILLWAY_WORKER)"; true';

async function looks() {
  return {
    exec: (await promisify(exec)(LOOK)).stdout,
    execFile: (await promisify(execFile)('sh', ['-c', LOOK])).stdout,
    spawnSync: spawnSync('sh', ['-c', LOOK], { encoding: 'utf8' }).stdout,
    inheriting: spawnSync('sh', ['-c', LOOK], { encoding: 'utf8', stdio: ['inherit', 'pipe', 'inherit'] })
      .stdout,
  };
}

await listening(
  createServer(async (_request, response) =>
    response.end(JSON.stringify({ ...who(), looks: await looks() })),
  ),
  process.env.PORT,
);
