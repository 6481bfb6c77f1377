/** CPU time and memory of processes. */
import pidusage from 'pidusage';

export interface Usage {
  /** Percent of one CPU, since the last look at the process, or its start. */
  cpu: number;
  /** Resident bytes. */
  memory: number;
}

/** By process id; those that have gone are missing. */
export async function usageOf(pids: readonly (number | undefined)[]): Promise<ReadonlyMap<number, Usage>> {
  const found = new Map<number, Usage>();
  // One at a time: a process that has gone would fail the whole list.
  await Promise.all(
    pids.map(async (pid) => {
      if (pid === undefined) return;
      const usage = await pidusage(pid).catch(() => undefined);
      if (usage) found.set(pid, { cpu: usage.cpu, memory: usage.memory });
    }),
  );
  return found;
}
