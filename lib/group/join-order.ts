/**
 * The order of the listeners in the kernel's reuseport group, which is what the answer of a classic program is an index
 * into: a newcomer is appended; when one leaves, the last takes its place (net/core/sock_reuseport.c,
 * `__reuseport_detach_sock`). The kernel tells it only as long as nobody has left, so it is kept for the life of the
 * group, over all changes of selector, and everyone who joins or leaves is reported here, the sink and the gate included.
 */
export class JoinOrder {
  readonly #inodes: number[];

  constructor(inodes: readonly number[]) {
    this.#inodes = [...inodes];
  }

  get length(): number {
    return this.#inodes.length;
  }

  /** −1 when the socket is not in the kernel's group. */
  indexOf(inode: number): number {
    return this.#inodes.indexOf(inode);
  }

  /** From the first to the last. */
  get inodes(): readonly number[] {
    return this.#inodes;
  }

  joined(inode: number): void {
    if (!this.#inodes.includes(inode)) this.#inodes.push(inode);
  }

  left(inode: number): void {
    const index = this.#inodes.indexOf(inode);
    if (index < 0) return;
    const last = this.#inodes.pop();
    if (index < this.#inodes.length && last !== undefined) this.#inodes[index] = last;
  }
}
