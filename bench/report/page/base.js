/**
 * What every part of the page's script uses: the data, how a driver looks, numbers, elements. The parts are classic
 * scripts, put into the page one after the other (bench/report/html.ts), that share the global `bench`.
 */
(() => {
  /** As bench/report/html/data.ts describes it. */
  const data = JSON.parse(document.getElementById('data').textContent);

  const LOOKS = 6;
  const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];

  /** Name of the CSS variable with the driver's colour, its dashes (canvas units) and the width of its line. */
  function lookOf(name) {
    const { own, look } = data.drivers[name];
    if (own) return { colour: '--accent', dash: DASHES[look % DASHES.length], width: look === 0 ? 3 : 2 };
    return {
      colour: `--look-${look % LOOKS}`,
      dash: DASHES[Math.floor(look / LOOKS) % DASHES.length],
      width: 1.75,
    };
  }

  /** The value of a CSS variable now, in the colour scheme of the moment. */
  function cssValue(variable) {
    return getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
  }

  const format = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
  const formatWhole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

  /** With its unit; nothing for what is not there. */
  function text(value, unit) {
    if (value === null || value === undefined || Number.isNaN(value)) return '–';
    const digits = (Math.abs(value) >= 100 ? formatWhole : format).format(value);
    if (!unit) return digits;
    return unit.startsWith('1/') ? `${digits}${unit.slice(1)}` : `${digits} ${unit}`;
  }

  /** An element; children are elements or text, never HTML. */
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== false) made.setAttribute(name, value === true ? '' : value);
    }
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  function median(values) {
    const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
    if (sorted.length === 0) return null;
    const upper = sorted.length >> 1;
    return sorted.length % 2 === 1 ? sorted[upper] : (sorted[upper - 1] + sorted[upper]) / 2;
  }

  globalThis.bench = {
    data,
    lookOf,
    cssValue,
    text,
    element,
    median,
    titleOf: (name) => data.drivers[name].title,
    isOwn: (name) => data.drivers[name].own,
    isReference: (name) => data.drivers[name].reference,
    /** What a panel is made of, in this order: functions of a variant that return an element, or null for nothing. */
    parts: [],
  };
})();
