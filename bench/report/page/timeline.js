/** What was answered, what failed and how long it took, over the time of a measurement. */
(() => {
  const { bench } = globalThis;
  const { element, isOwn, isReference } = bench;

  /** With more drivers than that only Spillway and the reference are shown at first: they would hide one another. */
  const FEW = 3;
  /** Moments of one kind that are listed below. */
  const MOST_MOMENTS = 8;

  bench.parts.push((variant) => {
    const drivers = variant.drivers.filter(({ timeline }) => timeline);
    if (drivers.length === 0) return null;
    const step = Math.min(...drivers.map(({ timeline }) => timeline.step));
    const buckets = Math.max(
      ...drivers.map(({ timeline }) => Math.ceil((lengthOf(timeline) * timeline.step) / step)),
    );
    const x = Array.from({ length: buckets }, (_, i) => (i * step) / 1000);
    const lines = (values, toValue) =>
      drivers.map(({ timeline }) => spreadOut(timeline, values, toValue, step, buckets));
    const perSecond = (value, timeline) => (value * 1000) / timeline.step;
    const failed = drivers.some(({ timeline }) => timeline.failed !== 0);
    const plots = [
      { title: 'answered, 1/s', height: 170, x, lines: lines('answered', perSecond), unit: '1/s' },
      ...(failed
        ? [{ title: 'failed, 1/s', height: 110, x, lines: lines('failed', perSecond), unit: '1/s' }]
        : []),
      {
        title: 'longest time to the first byte, ms',
        height: 170,
        x,
        lines: lines('longest', (value) => Math.max(value, 0.001)),
        log: true,
        unit: 'ms',
      },
    ];
    const names = drivers.map(({ name }) => name);
    const marks = drivers.flatMap(({ timeline }) =>
      timeline.marks.map(({ at, what }) => ({ at: at / 1000, what })),
    );
    return element(
      'figure',
      {},
      element('figcaption', {}, element('b', {}, 'Over time')),
      bench.chart({
        names,
        plots,
        axis: { label: 'seconds since the start of the load', text: (at) => bench.text(at, '') },
        shown: (name) => names.length <= FEW || isReference(name) || name === names.find(isOwn),
        marks: () => drawnMarks(marks),
      }),
      markList(marks),
      element(
        'p',
        { class: 'note' },
        'Of the round in the middle. A request counts where it was due, however late it was answered. Names switch their lines on and off.',
      ),
    );
  });

  function lengthOf({ longest }) {
    return longest.length;
  }

  /** A timeline on the finest step of all: every bucket stands for those of which it is the sum. */
  function spreadOut(timeline, values, toValue, step, buckets) {
    const list = timeline[values];
    return Array.from({ length: buckets }, (_, i) => {
      const at = Math.floor((i * step) / timeline.step);
      if (at >= lengthOf(timeline)) return null;
      const value = list === 0 ? 0 : list[at];
      return value === null ? null : toValue(value, timeline);
    });
  }

  /** What happened in every driver's turn at about the same time is one line, not twelve. */
  function drawnMarks(marks) {
    const byPlace = new Map(marks.map((mark) => [Math.round(mark.at * 10), mark]));
    return [...byPlace.values()];
  }

  /** What happened, and when: once for all drivers whose marks lie within a tenth of a second. */
  function markList(marks) {
    if (marks.length === 0) return null;
    const byWhat = new Map();
    for (const { at, what } of marks) byWhat.set(what, [...(byWhat.get(what) ?? []), at]);
    const items = [...byWhat].map(([what, times]) => {
      const moments = new Map(times.sort((a, b) => a - b).map((at) => [Math.round(at * 10), at.toFixed(2)]));
      const shown = [...moments.values()].slice(0, MOST_MOMENTS).join(', ');
      return element('li', {}, `${shown}${moments.size > MOST_MOMENTS ? ' …' : ''} s: ${what}`);
    });
    return element('ul', { class: 'marks' }, ...items);
  }
})();
