/**
 * Puts a command behind setpriv(1), which becomes it under the same process id: the kernel sends it the signal when its
 * parent ends, however that happens (PR_SET_PDEATHSIG in prctl(2)).
 */
export function tied(signal: 'KILL' | 'TERM', command: readonly string[]): [string, ...string[]] {
  return ['setpriv', '--pdeathsig', signal, ...command];
}
