/** Variants as tabs, each filled when it is first looked at. Without this script all tables stand below each other. */
(() => {
  const { bench } = globalThis;
  const { data, element, parts } = bench;

  function fill(panel) {
    const holder = panel.querySelector('.charts');
    if (holder.childElementCount > 0) return;
    const variant = data.variants[panel.dataset.variant];
    holder.append(...parts.map((part) => part(variant)).filter((made) => made !== null));
  }

  function makeTabs(scenario) {
    const panels = [...scenario.querySelectorAll('.panel')];
    const list = element('div', { class: 'tabs', role: 'tablist', 'aria-label': 'Variants' });
    const tabs = panels.map((panel, index) => {
      panel.id = `${scenario.id}-panel-${index}`;
      const tab = element(
        'button',
        { type: 'button', role: 'tab', id: `${scenario.id}-tab-${index}`, 'aria-controls': panel.id },
        panel.dataset.title,
      );
      panel.setAttribute('role', 'tabpanel');
      panel.setAttribute('aria-labelledby', tab.id);
      tab.addEventListener('click', () => select(index));
      return tab;
    });

    function show(chosen) {
      panels.forEach((panel, index) => {
        panel.hidden = index !== chosen;
        tabs[index].setAttribute('aria-selected', String(index === chosen));
        tabs[index].tabIndex = index === chosen ? 0 : -1;
      });
    }

    function select(chosen) {
      show(chosen);
      fill(panels[chosen]);
    }

    list.addEventListener('keydown', ({ key }) => {
      const now = tabs.indexOf(document.activeElement);
      const next = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: -1 }[key];
      if (now < 0 || next === undefined) return;
      const index = (next + tabs.length) % tabs.length;
      tabs[index].focus();
      select(index);
    });
    list.append(...tabs);
    if (panels.length > 1) scenario.querySelector('.variants').before(list);
    show(0);
  }

  // Charts are drawn when their scenario comes near: a report has hundreds of them.
  const watcher = new IntersectionObserver(
    (entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        watcher.unobserve(target);
        for (const panel of target.querySelectorAll('.panel:not([hidden])')) fill(panel);
      }
    },
    { rootMargin: '600px' },
  );
  for (const scenario of document.querySelectorAll('.scenario')) {
    makeTabs(scenario);
    watcher.observe(scenario);
  }
})();
