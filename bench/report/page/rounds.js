/** Every round as a dot, and the answers per worker: the spread that a median hides. */
(() => {
  const { bench } = globalThis;
  const { element, titleOf, isOwn, lookOf, text, median } = bench;

  /** From this range on the scale is logarithmic. */
  const WIDE = 30;

  bench.parts.push((variant) => {
    if (variant.drivers.length === 0 || variant.figures.length === 0) return null;
    const holder = element('div');
    const select = element(
      'select',
      { 'aria-label': 'Figure' },
      ...variant.figures.map(({ title, unit }, index) =>
        element('option', { value: index }, unit ? `${title}, ${unit}` : title),
      ),
    );
    const show = () => holder.replaceChildren(strip(variant, Number(select.value)));
    select.addEventListener('change', show);
    show();
    return element(
      'figure',
      {},
      element('figcaption', {}, element('b', {}, 'Every round'), select),
      holder,
      element(
        'p',
        { class: 'note' },
        'A dot per round, a line at the median. Where dots of two drivers overlap, a difference is hard to show.',
      ),
    );
  });

  function strip(variant, index) {
    const { unit, better } = variant.figures[index];
    const values = variant.drivers.flatMap(({ samples }) => samples[index]).filter((value) => value !== null);
    if (values.length === 0) return element('p', { class: 'note' }, 'No round has a value.');
    const place = scale(Math.min(...values), Math.max(...values));
    const rows = variant.drivers.map(({ name, samples }) => row(name, samples[index], unit, place));
    const ends = element(
      'div',
      { class: 'scale' },
      element('span', {}, text(place.low, unit)),
      element(
        'span',
        {},
        `${place.log ? 'logarithmic' : ''}${place.log && better ? ', ' : ''}${better ? `${better} is better` : ''}`,
      ),
      element('span', {}, text(place.high, unit)),
    );
    return element('div', { class: 'strip' }, ...rows, element('span'), ends, element('span'));
  }

  function row(name, samples, unit, place) {
    const middle = median(samples);
    const told = samples.map((value, round) => `round ${round + 1}: ${text(value, unit)}`).join(', ');
    const track = element('div', {
      class: 'track',
      role: 'img',
      'aria-label': told,
      style: `--look: var(${lookOf(name).colour})`,
    });
    samples.forEach((value, round) => {
      if (value === null) return;
      track.append(
        element('span', {
          class: 'dot',
          style: `left:${place.at(value)}%`,
          title: `round ${round + 1}: ${text(value, unit)}`,
        }),
      );
    });
    if (middle !== null)
      track.append(element('span', { class: 'middle', style: `left:${place.at(middle)}%` }));
    return element(
      'div',
      { class: 'row' },
      element('span', { class: isOwn(name) ? 'own' : null }, titleOf(name)),
      track,
      element('span', { class: 'num' }, text(middle, unit)),
    );
  }

  /** From the least to the most, from zero unless that would leave nothing to be seen. */
  function scale(min, max) {
    const log = min > 0 && max / min > WIDE;
    const low = log || min < 0 || min > max * 0.6 ? min : 0;
    const of = log ? Math.log : (value) => value;
    const span = of(max) - of(low);
    return {
      log,
      low,
      high: max,
      at: (value) => (span === 0 ? 50 : (2 + (96 * (of(value) - of(low))) / span).toFixed(2)),
    };
  }

  bench.parts.push((variant) => {
    const drivers = variant.drivers.filter(({ workers }) => workers.length > 1);
    if (drivers.length === 0) return null;
    const most = Math.max(...drivers.flatMap(({ workers }) => workers));
    return element(
      'figure',
      {},
      element('figcaption', {}, element('b', {}, 'Answers per worker')),
      element('div', { class: 'workers' }, ...drivers.map((driver) => columns(driver, most))),
      element(
        'p',
        { class: 'note' },
        'Share of the answers, the busiest worker first; mean of the rounds. Dashed: an even share. Who has one worker is not shown.',
      ),
    );
  });

  function columns({ name, workers }, most) {
    const share = (value) => `${Math.round(value * 1000) / 10}\u00a0%`;
    const told = `most ${share(workers[0])}, least ${share(workers.at(-1))}`;
    const bars = element('div', {
      class: 'columns',
      role: 'img',
      'aria-label': told,
      style: `--look: var(${lookOf(name).colour})`,
    });
    for (const value of workers)
      bars.append(element('i', { style: `height:${(100 * value) / most}%`, title: share(value) }));
    bars.append(element('span', { class: 'even', style: `bottom:${100 / workers.length / most}%` }));
    return element(
      'div',
      { class: isOwn(name) ? 'own' : null },
      bars,
      element('p', {}, titleOf(name)),
      element('small', {}, told),
    );
  }
})();
