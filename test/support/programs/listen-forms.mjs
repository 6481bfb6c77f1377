// Every way to ask net.Server for a TCP port. Each returns what listen() returned, and where it has one a counter of its
// callback, or the options it gave and how they looked before.

const counter = () => {
  const calls = { count: 0 };
  return [calls, () => calls.count++];
};

function withOptions(server, options, ...rest) {
  const before = JSON.stringify(options);
  return { returned: server.listen(options, ...rest), options, before };
}

export const FORMS = {
  '(port)'(port) {
    return { returned: this.listen(port) };
  },
  '(port as string)'(port) {
    return { returned: this.listen(String(port)) };
  },
  '(port, callback)'(port) {
    const [callback, count] = counter();
    return { returned: this.listen(port, count), callback };
  },
  '(port, host)'(port) {
    return { returned: this.listen(port, '127.0.0.1') };
  },
  '(port, wildcard)'(port) {
    return { returned: this.listen(port, '0.0.0.0') };
  },
  '(port, localhost, callback)'(port) {
    const [callback, count] = counter();
    return { returned: this.listen(port, 'localhost', count), callback };
  },
  '(port, backlog)'(port) {
    return { returned: this.listen(port, 3) };
  },
  '(port, host, backlog, callback)'(port) {
    const [callback, count] = counter();
    return { returned: this.listen(port, '127.0.0.1', 3, count), callback };
  },
  '(port, name to be resolved, callback)'(port) {
    const [callback, count] = counter();
    // getaddrinfo(3) reads it as 127.0.0.1, but it is no address to net.isIP().
    return { returned: this.listen(port, '127.1', count), callback };
  },
  '({ port })'(port) {
    return withOptions(this, { port });
  },
  '({ port as string, host, backlog, exclusive }, callback)'(port) {
    const [callback, count] = counter();
    const options = { port: String(port), host: 'localhost', backlog: 3, exclusive: true };
    return { ...withOptions(this, options, count), callback };
  },
  '(frozen { port, host })'(port) {
    return withOptions(this, Object.freeze({ port, host: '127.0.0.1' }));
  },
  '({ port, signal })'(port) {
    return withOptions(this, { port, signal: new AbortController().signal });
  },
};
