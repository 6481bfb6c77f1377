/**
 * What a launcher and its driver say to each other over Node's IPC channel: the driver sends `reload`; the launcher tells
 * once that the service is there, and then how each reload ended.
 */
export interface Told {
  /** Why it failed; absent: it is done. */
  failed?: string;
}

/** What a launcher can do; it is asked for nothing before `start` is done. */
export interface Launcher {
  /** Rejects when a worker ends before it listens. */
  start(): Promise<void>;
  /** Replaces all workers. */
  reload(): Promise<void>;
  /** Ends all workers gently; resolves when they have gone. */
  end(): Promise<void>;
}

/** Milliseconds after which a worker that was asked to end is killed: its own limit is 10 s. */
export const END_WITHIN = 11_000;

/** Runs it until SIGTERM, or until the driver has gone. The process ends with code 1 when it does not start. */
export async function obey(launcher: Launcher): Promise<void> {
  const tell = (told: Told) => process.send?.(told);
  const end = () => void launcher.end().then(() => process.exit(0));
  process.once('SIGTERM', end);
  process.once('disconnect', end);
  await launcher.start();
  process.on('message', () =>
    launcher.reload().then(
      () => tell({}),
      (error: Error) => tell({ failed: error.message }),
    ),
  );
  tell({});
}
