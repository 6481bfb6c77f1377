export function run(
  start: (port: string) => Promise<{ address(): unknown; close(): Promise<unknown> }>,
): Promise<void>;
export function who(): { pid: number; slot: string | undefined };
