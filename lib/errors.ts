/** Every error code, once: what it means and what to do about it. `docs/errors.md` is generated from this table. */
export const ERRORS = {
  ERR_SPILLWAY_ADDON: {
    means: 'The native addon is missing or does not fit this Node version.',
    hint: 'Build it: `npm run setup` in a checkout, `npm rebuild spillway` where it is installed.',
  },
  ERR_SPILLWAY_ADDRESS_IN_USE: {
    means:
      'Another socket holds the port and does not share it: it was opened without SO_REUSEPORT, or by another user.',
    hint: 'Choose another port, or stop the program that holds it (`ss -ltnp` names it).',
  },
  ERR_SPILLWAY_ADDRESS_UNAVAILABLE: {
    means: 'The address is not one of this machine, or the interface does not exist.',
    hint: 'Choose an address that `ip address` lists, or set `freeBind` to bind before it appears.',
  },
  ERR_SPILLWAY_BAD_FD: {
    means: 'A descriptor in the list is not a listening TCP socket that can join the group.',
    hint: 'Give every socket once, bound with SO_REUSEPORT to one address and port, and listening.',
  },
  ERR_SPILLWAY_CLOSED: {
    means: 'The group was closed.',
    hint: 'Open a new one.',
  },
  ERR_SPILLWAY_CONFIG: {
    means: 'The config file cannot be read, or says something that is not understood.',
    hint: 'docs/config.md lists every key with its type and range.',
  },
  ERR_SPILLWAY_CONTROL: {
    means: 'The control socket of a master cannot be opened, or does not answer as it should.',
    hint: 'docs/control.md says where it is and who may use it.',
  },
  ERR_SPILLWAY_HOST_UNKNOWN: {
    means: 'The host name could not be resolved.',
    hint: 'Give a numeric address, or a name that `getent hosts` knows.',
  },
  ERR_SPILLWAY_LIMIT: {
    means: 'A limit of the system or the process was reached (descriptors, memory, map entries).',
    hint: 'Raise the limit the message names (`ulimit -n`, systemd LimitNOFILE=), or ask for fewer sockets.',
  },
  ERR_SPILLWAY_LOGS: {
    means: 'A log file or its folder cannot be written.',
    hint: 'Choose another folder with --logs, or give yourself the right to write there.',
  },
  ERR_SPILLWAY_NAME_NEEDED: {
    means: 'Several masters run, and it was not said which one is meant.',
    hint: 'Name one of them: `spillway status NAME`.',
  },
  ERR_SPILLWAY_NAME_TAKEN: {
    means: 'A master of that name runs already.',
    hint: 'Stop it, or start this one under another name with --name.',
  },
  ERR_SPILLWAY_NOT_RUNNING: {
    means: 'No master runs, or none of that name.',
    hint: '`spillway start SCRIPT` starts one.',
  },
  ERR_SPILLWAY_NO_PORT: {
    means: 'The master has no port yet.',
    hint: 'Declare one by `port` or `listen`, or wait until the program listens.',
  },
  ERR_SPILLWAY_NO_SIBLING: {
    means: 'No other enabled socket could take over the queue of the one that should leave.',
    hint: 'Add or enable another socket first, or close the whole group.',
  },
  ERR_SPILLWAY_NO_SUCH_SLOT: {
    means: 'The slot does not exist in this group, or no socket is in it.',
    hint: 'Slots are numbered from 0 to the number of sockets minus one.',
  },
  ERR_SPILLWAY_NO_WORKER: {
    means: 'No worker is left, and none is started any more: too many have failed in a row.',
    hint: 'The output of the program says why it ends; run it alone to see it.',
  },
  ERR_SPILLWAY_OPTION_FIXED: {
    means: 'The option can only be given when the group is opened.',
    hint: 'Open the group anew with the value you want.',
  },
  ERR_SPILLWAY_OPTION_RANGE: {
    means: 'The value of an option has the wrong type or is out of range.',
    hint: 'docs/options.md lists the type and range of every option.',
  },
  ERR_SPILLWAY_OPTION_TIER: {
    means: 'The selector in force cannot give what the option asks for.',
    hint: 'docs/options.md says which selector gives what; `npx spillway doctor` says how to get a better one.',
  },
  ERR_SPILLWAY_OPTION_UNKNOWN: {
    means: 'There is no option of that name.',
    hint: 'docs/options.md lists all of them.',
  },
  ERR_SPILLWAY_PERMISSION: {
    means: 'The system refused for want of a capability or right.',
    hint: 'Grant the capability that the message names; `npx spillway doctor` prints how.',
  },
  ERR_SPILLWAY_PLATFORM: {
    means: 'Spillway runs on Linux only.',
    hint: 'Run it on Linux, for example in a container or a virtual machine.',
  },
  ERR_SPILLWAY_RELOAD: {
    means: 'A new worker was not ready; those of before go on.',
    hint: 'The output of the program says why; mend it and reload again.',
  },
  ERR_SPILLWAY_REQUEST: {
    means: 'A request on the control socket of a master makes no sense.',
    hint: 'docs/control.md lists the requests and their bodies.',
  },
  ERR_SPILLWAY_SCRIPT_MISSING: {
    means: 'The program to run does not exist or cannot be executed.',
    hint: 'Check the path; it is resolved against the working directory.',
  },
  ERR_SPILLWAY_SELECTOR_UNAVAILABLE: {
    means: 'The selector that was asked for by name does not work here.',
    hint: "Use selector 'auto', or grant what the message names; `npx spillway doctor` prints how.",
  },
  ERR_SPILLWAY_SYSTEM: {
    means: 'The operating system refused a call that Spillway does not expect to fail.',
    hint: 'The message names the call and the reason; please report it when it makes no sense.',
  },
  ERR_SPILLWAY_UDP: {
    means: 'A program bound a UDP port. Spillway distributes TCP; N workers cannot hold one UDP port.',
    hint: 'Bind it in one worker only, with `exclusive: true`, or let them share it: `reuseAddr` or `reusePort`.',
  },
  ERR_SPILLWAY_WORKER: {
    means: 'A worker could not be started or ended.',
    hint: 'Run the program alone to see why it ends.',
  },
} as const satisfies Record<string, { means: string; hint: string }>;

export type ErrorCode = keyof typeof ERRORS;

export interface SpillwayErrorDetails {
  /** What to do, instead of the code's general hint. */
  hint?: string;
  cause?: unknown;
  /** Name of the system call and its (negative) error number, when the operating system said no. */
  syscall?: string;
  errno?: number;
}

/**
 * The only class of errors Spillway throws on purpose. `code` is stable, `message` names what was wrong, `hint` what
 * to do about it.
 */
export class SpillwayError extends Error {
  override readonly name = 'SpillwayError';
  readonly code: ErrorCode;
  readonly hint: string;
  readonly syscall?: string;
  readonly errno?: number;

  constructor(code: ErrorCode, message: string, details: SpillwayErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.hint = details.hint ?? ERRORS[code].hint;
    if (details.syscall !== undefined) this.syscall = details.syscall;
    if (details.errno !== undefined) this.errno = details.errno;
  }
}

/** Adds the `code`, `syscall` and `errno` of an operating-system error to a SpillwayError that names what it was about. */
export function systemError(code: ErrorCode, about: string, cause: unknown, hint?: string): SpillwayError {
  const os = cause as { message?: string; syscall?: string; errno?: number; detail?: string };
  const reason = os?.message ?? String(cause);
  const detail = os?.detail ? `\n${os.detail.trimEnd()}` : '';
  return new SpillwayError(code, `${about}: ${reason}${detail}`, {
    cause,
    ...(hint === undefined ? {} : { hint }),
    ...(os?.syscall === undefined ? {} : { syscall: os.syscall }),
    ...(os?.errno === undefined ? {} : { errno: os.errno }),
  });
}
