// A master in a process of its own. Arguments: path of the package's entry, program, what to do then.
const [entry, script, then] = process.argv.slice(2);
const { Master } = await import(entry);
const master = await Master.start({ script, host: '127.0.0.1', port: 0, workers: 2, stdio: 'ignore' });
const { port } = master.group.address;
process.send({ port, pids: master.workers.map(({ pid }) => pid) }, () => {
  if (then === 'exit') process.exit();
});
