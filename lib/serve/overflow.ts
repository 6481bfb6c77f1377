/** Tells of connection requests that nobody had room for. */
import type { SocketGroup } from '../group/group.js';

/** Milliseconds between looks at the counters. */
const LOOK_EVERY = 1000;

export class OverflowWatch {
  readonly #groups: () => readonly SocketGroup[];
  readonly #tell: (group: SocketGroup, dropped: number, reset: number) => void;
  readonly #seen = new WeakMap<SocketGroup, { dropped: number; reset: number }>();
  readonly #timer: NodeJS.Timeout;

  constructor(
    groups: () => readonly SocketGroup[],
    tell: (group: SocketGroup, dropped: number, reset: number) => void,
  ) {
    this.#groups = groups;
    this.#tell = tell;
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY);
    this.#timer.unref();
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): void {
    for (const group of this.#groups()) {
      const syn = group.decisions()?.syn;
      if (!syn) continue;
      const { dropped, reset } = syn;
      // What a master before this one has told of is no news.
      const before =
        this.#seen.get(group) ?? (group.isAdopted ? { dropped, reset } : { dropped: 0, reset: 0 });
      this.#seen.set(group, { dropped, reset });
      // The counters begin anew when the selector has been changed.
      const since = (now: number, then: number) => (now >= then ? now - then : now);
      const news = { dropped: since(dropped, before.dropped), reset: since(reset, before.reset) };
      if (news.dropped + news.reset > 0) this.#tell(group, news.dropped, news.reset);
    }
  }
}
