/** HAProxy in front of the workers. */
import { behindProxy, isTcp } from './behind-proxy.js';

export const HAPROXY = behindProxy({
  name: 'haproxy',
  title: 'HAProxy in front',
  about:
    'HAProxy takes every connection and asks the worker with the fewest connections (leastconn, http-reuse always); one that refuses is passed by.',
  versionArgs: ['-v'],
  command: (configuration) => ['haproxy', '-db', '-f', configuration],
  configuration(order, backends) {
    const { host, port, backlog } = order;
    const servers = backends.map((each, slot) => `  server worker${slot} ${each.host}:${each.port} check`);
    return [
      'defaults',
      // A worker that cannot be reached costs one attempt, and the next one goes to another.
      '  option redispatch 1',
      '  retries 3',
      '  timeout connect 5s',
      '  timeout client 50s',
      '  timeout server 50s',
      `  mode ${isTcp(order) ? 'tcp' : 'http'}`,
      'listen service',
      `  bind ${host}:${port}`,
      `  backlog ${backlog}`,
      '  balance leastconn',
      ...(isTcp(order) ? [] : ['  http-reuse always', '  option httpchk GET /']),
      ...servers,
      '',
    ].join('\n');
  },
});
