/** How the requests ended, how the generator was, and all figures, also those that are not in the first table. */
(() => {
  const { bench } = globalThis;
  const { data, element, titleOf, isOwn, text, median } = bench;

  const VERDICTS = { w: 'win', l: 'loss', t: 'tie', u: 'no verdict' };
  /** Above this share of a processor the generator may have been what was measured. */
  const BUSY = 0.9;

  function table(head, rows) {
    return element(
      'div',
      { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': head[0] },
      element(
        'table',
        { class: 'chart-table' },
        element(
          'thead',
          {},
          element('tr', {}, ...head.map((name, i) => element('th', { class: i > 0 ? 'num' : null }, name))),
        ),
        element('tbody', {}, ...rows),
      ),
    );
  }

  function row(name, cells) {
    return element(
      'tr',
      { class: isOwn(name) ? 'own' : null },
      element('th', { scope: 'row' }, titleOf(name)),
      ...cells.map((cell) => element('td', { class: 'num' }, ...[cell].flat())),
    );
  }

  const NOT_RECORDED = 'not recorded';

  function generatorCells(generator) {
    if (generator === null) return [NOT_RECORDED, NOT_RECORDED];
    const [lateP99, lateMax, busy] = generator;
    return [
      `${text(lateP99, 'ms')} / ${text(lateMax, 'ms')}`,
      `${text(100 * busy, '%')}${busy > BUSY ? ' (too busy?)' : ''}`,
    ];
  }

  bench.parts.push((variant) => {
    const { drivers } = variant;
    if (drivers.length === 0) return null;
    const seen = data.outcomes
      .map((_, i) => i)
      .filter((i) => i === 0 || drivers.some(({ outcomes }) => outcomes?.[i] > 0));
    const rows = drivers.map(({ name, outcomes, generator }) =>
      row(name, [
        ...seen.map((i) => (outcomes === null ? NOT_RECORDED : text(outcomes[i], ''))),
        ...generatorCells(generator),
      ]),
    );
    const recorded = drivers.some(({ outcomes, generator }) => outcomes !== null || generator !== null);
    const title = 'How the requests ended, and the generator';
    if (!recorded) return element('p', { class: 'note' }, `${title}: ${NOT_RECORDED}`);
    return element(
      'details',
      {},
      element('summary', {}, title),
      table(
        [
          'Requests of all rounds',
          ...seen.map((i) => data.outcomes[i]),
          'generator late, p99 / max',
          'generator busy',
        ],
        rows,
      ),
    );
  });

  bench.parts.push((variant) => {
    const { drivers, figures } = variant;
    if (drivers.length === 0) return null;
    const rows = drivers.map(({ name, samples, verdicts }) =>
      row(
        name,
        figures.map((_, i) => {
          const there = samples[i].filter((value) => value !== null);
          if (there.length === 0) return 'none';
          const word = VERDICTS[verdicts[i]];
          return [
            element('b', {}, text(median(there), '')),
            element('small', {}, ` ${text(Math.min(...there), '')}–${text(Math.max(...there), '')} `),
            word ? element('span', { class: `chip ${word === 'no verdict' ? 'unknown' : word}` }, word) : '',
          ];
        }),
      ),
    );
    return element(
      'details',
      {},
      element('summary', {}, 'All figures, and the verdict on Spillway beside each driver'),
      table(
        ['Median, lowest–highest', ...figures.map(({ title, unit }) => (unit ? `${title}, ${unit}` : title))],
        rows,
      ),
    );
  });
})();
