/** Whom the workers run as: from names to the numbers of the kernel. */
import { execFileSync } from 'node:child_process';
import { SpillwayError } from '../../errors.js';

export interface Identity {
  uid: number;
  gid: number;
  groups: number[];
  /** What a program expects to find in its environment about its user; empty for a number that has no name. */
  env: Record<string, string>;
}

/**
 * `name`, `name:group`, with numbers for either. Without a group the user's own ones.
 *
 * @throws {SpillwayError} `ERR_SPILLWAY_OPTION_RANGE` for names that this machine does not know.
 */
export function identityOf(user: string): Identity {
  const [name = '', group, ...rest] = user.split(':');
  if (name === '' || group === '' || rest.length > 0 || /^-|\s/.test(name)) {
    throw unknown(`user cannot be '${user}'; it takes: user, or user:group, by name or number`);
  }
  const uid = idOf('-u', name);
  if (uid === undefined) {
    if (!/^\d+$/.test(name)) throw unknown(`there is no user '${name}'`);
    if (group === undefined)
      throw unknown(
        `there is no user with id ${name}; with a group it can be used all the same: --user ${name}:GROUP`,
      );
    return { uid: Number(name), gid: groupOf(group), groups: [], env: {} };
  }
  const gid = group === undefined ? Number(idOf('-g', name)) : groupOf(group);
  const groups = (idOf('-G', name) ?? '').split(' ').map(Number);
  return { uid: Number(uid), gid, groups: groups.filter((each) => each !== gid), env: environmentOf(name) };
}

/** id(1) asks everything the machine knows users by, not /etc/passwd alone. */
function idOf(what: '-u' | '-g' | '-G', name: string): string | undefined {
  return output('id', [what, '--', name]);
}

function groupOf(group: string): number {
  const found = output('getent', ['group', '--', group])?.split(':')[2];
  if (found !== undefined) return Number(found);
  if (/^\d+$/.test(group)) return Number(group);
  throw unknown(`there is no group '${group}'`);
}

function environmentOf(name: string): Record<string, string> {
  const [login, , , , , home] = output('getent', ['passwd', '--', name])?.split(':') ?? [];
  if (login === undefined || home === undefined) return {};
  return { HOME: home, USER: login, LOGNAME: login };
}

function output(program: string, args: string[]): string | undefined {
  try {
    return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return undefined;
  }
}

function unknown(message: string): SpillwayError {
  return new SpillwayError('ERR_SPILLWAY_OPTION_RANGE', message, {
    hint: '`getent passwd` and `getent group` list whom this machine knows.',
  });
}
