/** HAProxy in front of the workers. */
import { behindProxy, isTcp } from './behind-proxy.js';

/** Requests that a worker gets at once with the queue; the others wait for the first worker that has room. */
const AT_ONCE = 4;

const haproxy = (name: string, title: string, queue: boolean, about: string) =>
  behindProxy({
    name,
    executable: 'haproxy',
    title,
    about,
    versionArgs: ['-v'],
    command: (configuration) => ['haproxy', '-db', '-f', configuration],
    configuration(order, backends) {
      const { host, port, backlog } = order;
      const servers = backends.map(
        (each, slot) =>
          `  server worker${slot} ${each.host}:${each.port} check${queue ? ` maxconn ${AT_ONCE}` : ''}`,
      );
      return [
        'defaults',
        // A worker that cannot be reached costs one attempt, and the next one goes to another.
        '  option redispatch 1',
        ...(isTcp(order) ? [] : ['  retry-on all-retryable-errors']),
        '  retries 3',
        '  timeout connect 5s',
        '  timeout client 50s',
        '  timeout server 50s',
        ...(queue ? ['  timeout queue 1s'] : []),
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

export const HAPROXY = haproxy(
  'haproxy',
  'HAProxy in front',
  false,
  'HAProxy takes every connection and asks the worker with the fewest connections (leastconn, http-reuse always); what fails and may be sent again is sent to another.',
);

export const HAPROXY_QUEUE = haproxy(
  'haproxy-queue',
  'HAProxy with a queue',
  true,
  `As haproxy, with ${AT_ONCE} requests per worker at once (maxconn): the others wait in HAProxy for the first worker that has room, for a second at most.`,
);
