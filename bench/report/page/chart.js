/** Line charts over one or several plots with one legend: a button per driver that hides it and tells its values. */
(() => {
  const { bench } = globalThis;
  const { lookOf, cssValue, element, titleOf, isOwn } = bench;

  const FONT = '12px system-ui, sans-serif';
  /** Charts that are drawn in colours of the scheme, and so again when it changes. */
  const drawn = new Set();
  let charts = 0;

  /**
   * `names`: the drivers. `plots`: { title, height, x, lines: one list of values per driver, log, unit }.
   * `axis`: { splits, label, text(x) } of the axis below. `shown`: which drivers at first. `marks()`: [{ at, what }].
   */
  bench.chart = ({ names, plots, axis, shown, marks = () => [] }) => {
    const visible = new Set(names.filter(shown));
    const sync = `chart-${charts++}`;
    const holders = plots.map(() => element('div', { class: 'plot' }));
    let drawings = [];

    const draw = () => {
      for (const drawing of drawings) drawing.destroy();
      drawings = plots.map((plot, index) =>
        drawPlot({
          plot,
          names,
          axis,
          visible,
          marks,
          sync,
          into: holders[index],
          tell,
          last: index === plots.length - 1,
        }),
      );
    };

    const buttons = names.map((name) => legendButton(name, visible.has(name), toggle));

    function toggle(name, button) {
      if (!visible.delete(name)) visible.add(name);
      button.setAttribute('aria-pressed', String(visible.has(name)));
      for (const drawing of drawings) drawing.setSeries(names.indexOf(name) + 1, { show: visible.has(name) });
    }

    /** Beside every driver its values where the pointer is; without one, nothing. */
    function tell(index) {
      names.forEach((_, driver) => {
        const values = plots.map(({ lines, unit }) => bench.text(lines[driver][index], unit));
        buttons[driver].querySelector('.value').textContent = index === null ? '' : values.join(' · ');
      });
    }

    const root = element('div');
    plots.forEach((plot, index) => {
      if (plot.title) root.append(element('p', { class: 'plot-title' }, plot.title));
      root.append(holders[index]);
    });
    root.append(element('div', { class: 'legend' }, ...buttons));
    new ResizeObserver(([entry]) => {
      const width = Math.floor(entry.contentRect.width);
      if (width === 0) return;
      if (drawings.length === 0) draw();
      for (const [index, drawing] of drawings.entries())
        drawing.setSize({ width, height: plots[index].height });
    }).observe(holders[0]);
    drawn.add(() => {
      if (drawings.length > 0) draw();
    });
    return root;
  };

  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    for (const again of drawn) again();
  });

  function legendButton(name, pressed, toggle) {
    const { colour, dash, width } = lookOf(name);
    const sample = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    sample.setAttribute('width', '28');
    sample.setAttribute('height', '10');
    sample.setAttribute('aria-hidden', 'true');
    const line = document.createElementNS('http://www.w3.org/2000/svg', 'path');
    line.setAttribute('d', 'M0 5H28');
    line.setAttribute(
      'style',
      `stroke: var(${colour}); stroke-width: ${width}; stroke-dasharray: ${dash.join(' ') || 'none'}`,
    );
    sample.append(line);
    const button = element(
      'button',
      { type: 'button', 'aria-pressed': String(pressed), class: isOwn(name) ? 'own' : null },
      sample,
      element('span', {}, titleOf(name)),
      element('span', { class: 'value' }),
    );
    button.addEventListener('click', () => toggle(name, button));
    return button;
  }

  function drawPlot({ plot, names, axis, visible, marks, sync, into, tell, last }) {
    const ink = cssValue('--soft');
    const grid = { stroke: cssValue('--line'), width: 1 };
    const common = { stroke: ink, font: FONT, grid, ticks: { ...grid, size: 4 } };
    const series = names.map((name) => {
      const { colour, dash, width } = lookOf(name);
      return {
        label: titleOf(name),
        stroke: cssValue(colour),
        width,
        dash,
        show: visible.has(name),
        points: { show: false },
      };
    });
    const options = {
      width: Math.max(240, Math.floor(into.clientWidth)),
      height: plot.height,
      legend: { show: false },
      cursor: { sync: { key: sync }, drag: { x: false, y: false }, points: { size: 7 } },
      scales: {
        x: { time: false },
        y: plot.log ? { distr: 3, range: decades } : { range: (_, __, max) => [0, max > 0 ? max * 1.05 : 1] },
      },
      axes: [
        {
          ...common,
          splits: axis.splits,
          values: (_, splits) => splits.map((at) => (last ? axis.text(at) : '')),
          ...(last ? { label: axis.label, labelFont: FONT, labelSize: 18, size: 34 } : { size: 8 }),
        },
        {
          ...common,
          size: 58,
          ...(plot.log ? { splits: powers } : {}),
          values: (_, splits) => splits.map((value) => (value === null ? '' : bench.text(value, ''))),
        },
      ],
      series: [{}, ...series],
      hooks: {
        setCursor: [({ cursor }) => tell(cursor.idx ?? null)],
        draw: [(drawing) => drawMarks(drawing, marks())],
      },
    };
    return new uPlot(options, [plot.x, ...plot.lines], into);
  }

  /** Lines at whole powers of ten only. */
  function powers({ scales }) {
    const first = Math.round(Math.log10(scales.y.min));
    const last = Math.round(Math.log10(scales.y.max));
    return Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
  }

  /** A logarithmic scale between whole powers of ten. */
  function decades(_, min, max) {
    if (!(min > 0) || !(max > 0)) return [0.1, 10];
    const low = 10 ** Math.floor(Math.log10(min));
    const high = 10 ** Math.ceil(Math.log10(max));
    return low === high ? [low, low * 10] : [low, high];
  }

  function drawMarks(drawing, marks) {
    const { ctx, bbox } = drawing;
    ctx.save();
    ctx.strokeStyle = cssValue('--loss');
    ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.lineWidth = 1.5 * devicePixelRatio;
    for (const { at } of marks) {
      const x = drawing.valToPos(at, 'x', true);
      if (x < bbox.left || x > bbox.left + bbox.width) continue;
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }
})();
