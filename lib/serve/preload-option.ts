/**
 * How the preload comes before everything else that a worker loads: Node runs what NODE_OPTIONS asks for before what its
 * command line does, and each in order. Programs, and children of theirs, are to find the variable as it was.
 */

/**
 * NODE_OPTIONS with the file in front. Node splits the variable at spaces; within double quotes a space is none, and a
 * backslash makes the character behind it an ordinary one (ParseNodeOptionsEnvVar in src/node_options.cc).
 */
export function withPreload(options: string | undefined, file: string): string {
  const option = preloadOption(file);
  return options === undefined ? option : `${option} ${options}`;
}

/** What {@link withPreload} was given; undefined when there was none. What does not begin with the file is left alone. */
export function withoutPreload(options: string | undefined, file: string): string | undefined {
  const option = preloadOption(file);
  if (options === option) return undefined;
  return options?.startsWith(`${option} `) ? options.slice(option.length + 1) : options;
}

const preloadOption = (file: string): string => `--require "${file.replace(/["\\]/g, '\\$&')}"`;
