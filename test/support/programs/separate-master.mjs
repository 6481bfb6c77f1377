// A master in a process of its own. Arguments: path of the package's entry, the master's options as JSON. The message
// `{ spin }` blocks its event loop for so many milliseconds; it says `{ spins }` before that and `{ spun }` afterwards.
const [entry, options] = process.argv.slice(2);
const { Master } = await import(entry);
// Its workers end with it.
process.on('disconnect', () => process.exit());
const master = await Master.start(JSON.parse(options));
process.on('message', ({ spin }) => {
  process.send({ spins: true }, () => {
    for (const end = performance.now() + spin; performance.now() < end; );
    process.send({ spun: true });
  });
});
process.send({ port: master.group.address.port, pids: master.workers.map(({ pid }) => pid) });
