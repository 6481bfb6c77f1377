/** Latency by percentile, on the scale of HDR histograms. */
(() => {
  const { bench } = globalThis;
  const { data, element } = bench;

  const KINDS = [
    { key: 'firstByte', title: 'first byte' },
    { key: 'connect', title: 'connect' },
  ];

  bench.parts.push((variant) => {
    const kinds = KINDS.filter(({ key }) => variant.drivers.some((driver) => driver[key]));
    if (kinds.length === 0) return null;
    const holder = element('div');
    const show = (key) => holder.replaceChildren(curves(variant, key));
    show(kinds[0].key);
    return element(
      'figure',
      {},
      element(
        'figcaption',
        {},
        element('b', {}, 'Latency by percentile'),
        kinds.length > 1 ? choice(kinds, show) : null,
      ),
      holder,
      element(
        'p',
        { class: 'note' },
        'Milliseconds from the moment a request was due, of those that were answered, all rounds together. Who fails to answer is not in the curve: see how the requests ended.',
      ),
    );
  });

  function choice(kinds, show) {
    const buttons = kinds.map(({ key, title }, index) => {
      const button = element('button', { type: 'button', 'aria-pressed': String(index === 0) }, title);
      button.addEventListener('click', () => {
        for (const other of buttons) other.setAttribute('aria-pressed', String(other === button));
        show(key);
      });
      return button;
    });
    return element('span', { class: 'choice' }, ...buttons);
  }

  function curves(variant, key) {
    const drivers = variant.drivers.filter((driver) => driver[key]);
    const longest = Math.max(...drivers.map((driver) => driver[key].length));
    return bench.chart({
      names: drivers.map(({ name }) => name),
      plots: [
        {
          height: 320,
          x: data.grid.slice(0, longest),
          // A logarithmic axis has no zero; below a microsecond nothing is measured.
          lines: drivers.map((driver) =>
            Array.from({ length: longest }, (_, i) => {
              const value = driver[key][i];
              return value === undefined ? null : Math.max(value, 0.001);
            }),
          ),
          log: true,
          unit: 'ms',
        },
      ],
      axis: { splits: [0, Math.log10(2), 1, 2, 3, 4, 5, 6], label: 'percentile', text: percentile },
      shown: () => true,
    });
  }

  /** 1 is the 90th, 2 the 99th, 3 the 99.9th. */
  function percentile(nines) {
    return String(Number((100 * (1 - 10 ** -nines)).toFixed(4)));
  }
})();
