// Uses the page about a campaign as a reader would, in a frame as wide as a screen; what came of it gets into an attribute of this page.
'use strict';
const given = JSON.parse(document.getElementById('given').textContent);
const frame = document.createElement('iframe');
frame.style.cssText = `width:${given.width}px;height:800px;border:0`;
frame.srcdoc = given.page.replace('<head>', '<head><script>var errors = []; addEventListener("error", event => errors.push(event.message));<\/script>');
frame.addEventListener('load', () => {
  const [page, inside] = [frame.contentDocument, frame.contentWindow];
  const one = selector => page.querySelector(selector);
  const column = (table, at) => [...page.querySelectorAll(`#table-${table} tbody tr`)].map(row => row.cells[at].textContent);
  const click = (table, title) => [...page.querySelectorAll(`#table-${table} th button`)].find(button => button.textContent === title).click();
  const type = (name, value, event) => {
    const field = one(`[aria-label="${name}"]`);
    field.value = value;
    field.dispatchEvent(new inside.Event(event));
  };
  const numbers = texts => texts.map(text => Number(text.replaceAll(',', '')));
  const result = { ready: page.documentElement.dataset.ready, width: inside.innerWidth };
  try {
    result.sections = [...page.querySelectorAll('section')].map(section => section.id);
    result.rows = column('operations', 0).length;
    result.by_calls = numbers(column('operations', 1));
    click('operations', 'operation');
    result.by_name = column('operations', 0);
    click('operations', 'edges');
    click('operations', 'edges');
    result.by_edges = numbers(column('operations', 5));
    result.sorted = [...page.querySelectorAll('#table-operations [aria-sort]')].map(head => [head.textContent, head.getAttribute('aria-sort')]);
    type('filter operations', 'SCHED_op', 'input');
    result.filtered = column('operations', 0);
    type('filter operations', '', 'input');
    type('which operations', 'never succeeded', 'change');
    result.unsuccessful = column('operations', 2);
    type('filter frontier', 'no such function', 'input');
    result.nothing = column('frontier', 0).length;

    const before = one('.curve').getAttribute('d');
    one('.chart button').click();
    result.logarithmic = before !== one('.curve').getAttribute('d') && one('.chart button').getAttribute('aria-pressed');
    result.marks = page.querySelectorAll('.chart:first-child .mark').length;

    [...page.querySelectorAll('#table-files tbody tr')].find(row => row.cells[0].textContent === 'hypercall/sched_op.rs').click();
    result.shown = one('#shown').textContent;
    result.hit = page.querySelectorAll('#viewer .hit').length;
    result.missed = page.querySelectorAll('#viewer .miss').length;

    for (const details of page.querySelectorAll('details')) details.open = true;
    result.finding = one('#findings details').textContent;
    result.plateau = one('#next').textContent;
    // All is open now. What is wider than the screen has a scroll bar of its own.
    result.overflow = page.documentElement.scrollWidth - page.documentElement.clientWidth;
    result.background = inside.getComputedStyle(page.body).backgroundColor;
    result.color = inside.getComputedStyle(page.body).color;
  } catch (error) {
    inside.errors.push(String(error));
  }
  result.errors = inside.errors;
  document.documentElement.dataset.result = encodeURIComponent(JSON.stringify(result));
});
document.body.append(frame);
