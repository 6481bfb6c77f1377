/** nginx in front of the workers. */
import { existsSync } from 'node:fs';
import { behindProxy, isTcp } from './behind-proxy.js';
import type { ServiceOrder } from './driver.js';

/** Debian has what proxies bare TCP in a package of its own, libnginx-mod-stream. */
const STREAM_MODULE = '/usr/lib/nginx/modules/ngx_stream_module.so';

/** Far more than any scenario has at a time: the default, 512, is what would be measured otherwise. */
const CONNECTIONS_PER_PROCESS = 16_384;

/** Idle connections to the workers that a process of nginx keeps. */
const KEPT_ALIVE = 64;

/** Where it would write otherwise belongs to an nginx of the machine. */
function folders({ folder }: ServiceOrder): string[] {
  return ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `  ${name}_temp_path ${folder}/${name};`,
  );
}

export const NGINX = behindProxy({
  name: 'nginx',
  title: 'nginx in front',
  about:
    'nginx takes every connection and asks the worker with the fewest connections (least_conn) on connections that stay; one that refuses is passed by.',
  versionArgs: ['-v'],
  command: (configuration, { folder }) => ['nginx', '-p', folder, '-e', 'stderr', '-c', configuration],
  configuration(order, backends) {
    const { host, port, backlog, cpus, folder } = order;
    const tcp = isTcp(order);
    if (tcp && !existsSync(STREAM_MODULE))
      throw new Error(
        'nginx cannot proxy TCP here. Type: apt-get install --no-install-recommends libnginx-mod-stream',
      );
    return [
      ...(tcp ? [`load_module ${STREAM_MODULE};`] : []),
      'daemon off;',
      // The folder can be entered by the user of the benchmark alone.
      ...(process.getuid?.() === 0 ? ['user root;'] : []),
      `pid ${folder}/nginx.pid;`,
      'error_log stderr;',
      // What "auto" gives on a machine of so many processors; nginx itself does not see what it is bound to.
      `worker_processes ${cpus.length};`,
      `worker_rlimit_nofile ${2 * CONNECTIONS_PER_PROCESS};`,
      `events { worker_connections ${CONNECTIONS_PER_PROCESS}; }`,
      tcp ? 'stream {' : 'http {',
      ...(tcp ? [] : ['  access_log off;', ...folders(order)]),
      '  upstream workers {',
      // Its processes choose by what all of them know.
      '    zone workers 64k;',
      '    least_conn;',
      // By default a worker that has refused once is left out for 10 s: a reload within that time would leave none.
      ...backends.map((each) => `    server ${each.host}:${each.port} max_fails=0;`),
      ...(tcp ? [] : [`    keepalive ${KEPT_ALIVE};`]),
      '  }',
      '  server {',
      `    listen ${host}:${port} backlog=${backlog};`,
      ...(tcp
        ? ['    proxy_pass workers;']
        : [
            '    location / {',
            '      proxy_pass http://workers;',
            '      proxy_http_version 1.1;',
            '      proxy_set_header Connection "";',
            '    }',
          ]),
      '  }',
      '}',
      '',
    ].join('\n');
  },
});
