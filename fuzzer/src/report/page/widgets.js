'use strict';
// What the page is made of: elements, tables, curves. Text from outside gets in by textContent only.

/** What the reader has chosen (order, filters, what is open), by name: a page that draws itself again keeps it. */
const chosen = new Map();
function choice(name, initial) {
  if (!chosen.has(name)) chosen.set(name, initial);
  return chosen.get(name);
}

const DRAWN = ['svg', 'path', 'line', 'text', 'title'];

/** Makes an element: attributes by name, children as elements or text. */
function make(tag, attributes, ...children) {
  const drawn = DRAWN.includes(tag);
  const element = drawn ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === undefined || value === null) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter(child => child !== undefined && child !== null));
  return element;
}

const count = value => Number(value || 0).toLocaleString('en');
const percent = (part, whole) => whole ? (100 * part / whole).toFixed(1) + ' %' : '-';
function time(seconds) {
  const s = Math.round(seconds), pad = n => String(n).padStart(2, '0');
  const day = s >= 86400 ? Math.floor(s / 86400) + ' d ' : '';
  return day + pad(Math.floor(s % 86400 / 3600)) + ':' + pad(Math.floor(s % 3600 / 60)) + ':' + pad(s % 60);
}
const some = (number, one, many) => `${count(number)} ${Number(number) === 1 ? one : many || one + 's'}`;
const small = text => make('p', { class: 'small dim' }, text);
const tile = (value, name, mood) => make('div', { class: 'tile ' + (mood || '') }, make('b', null, value), make('span', null, name));
const meter = (part, whole) => make('span', { class: 'share' },
  make('span', { class: 'meter' }, make('i', { style: `width:${whole ? 100 * part / whole : 0}%` })), make('span', null, percent(part, whole)));

/** Something that opens, and stays open. */
function opening(name, summary, ...content) {
  const state = choice('opening ' + name, { open: false });
  const element = make('details', { ontoggle: () => { state.open = element.open; } }, make('summary', null, summary), ...content);
  element.open = state.open;
  return element;
}

/**
 * A table whose columns sort and whose rows can be filtered. Columns: title, value for sorting, optional content and class. Options: the
 * column that sorts at first, and whether down; `text` of a row that the filter looks at; `kinds`, more filters by name.
 */
function table(name, columns, rows, options = {}) {
  const state = choice('table ' + name, { sort: options.sort, down: Boolean(options.down), words: '', kind: Object.keys(options.kinds || {})[0] });
  const body = make('tbody');
  const shown = make('span', { class: 'small dim' });
  const heads = columns.map((column, at) => make('th', { class: column.class, scope: 'col' },
    make('button', { type: 'button', onclick: () => {
      state.down = state.sort === at ? !state.down : !column.class;
      state.sort = at;
      draw();
    } }, column.title)));
  function order(a, b) {
    const [x, y] = [a, b].map(columns[state.sort].value);
    const difference = typeof x === 'string' ? x.localeCompare(y) : x - y;
    return state.down ? -difference : difference;
  }
  function cell(column, row) {
    const value = column.value(row);
    return make('td', { class: column.class }, column.content ? column.content(row) : typeof value === 'number' ? count(value) : value);
  }
  function draw() {
    heads.forEach((head, at) => at === state.sort ? head.setAttribute('aria-sort', state.down ? 'descending' : 'ascending')
      : head.removeAttribute('aria-sort'));
    const words = state.words.trim().toLowerCase();
    const left = rows.filter(row => (!options.kinds || options.kinds[state.kind](row)) && (!words || options.text(row).toLowerCase().includes(words)));
    left.sort(order);
    shown.textContent = left.length === rows.length ? count(rows.length) : `${count(left.length)} of ${count(rows.length)}`;
    body.replaceChildren(...left.map(row => make('tr', { class: options.rowClass && options.rowClass(row),
      onclick: options.onrow && (() => options.onrow(row)) }, ...columns.map(column => cell(column, row)))));
  }
  draw();
  const filters = [];
  if (options.text) {
    filters.push(make('input', { type: 'search', placeholder: 'filter', 'aria-label': 'filter ' + name, value: state.words,
      oninput: event => { state.words = event.target.value; draw(); } }));
  }
  if (options.kinds) {
    const select = make('select', { 'aria-label': 'which ' + name, onchange: event => { state.kind = event.target.value; draw(); } },
      ...Object.keys(options.kinds).map(kind => make('option', null, kind)));
    select.value = state.kind;
    filters.push(select);
  }
  return make('div', { class: 'table', id: 'table-' + name }, filters.length ? make('div', { class: 'bar' }, ...filters, shown) : null,
    make('div', { class: 'scroll', tabindex: '0', 'data-place': name }, make('table', null, make('thead', null, make('tr', null, ...heads)), body)));
}

/** Steps of a scale from 0: at most five, and no two of them alike once they are rounded. */
function scale(highest) {
  const steps = Math.min(4, Math.max(1, Math.ceil(highest)));
  return Array.from({ length: steps + 1 }, (_, step) => highest * step / steps);
}

/** A curve over time, of samples with `t`. `marks` are moments with a name; `stepped` is for what changes at once. */
function chart(title, samples, value, marks, stepped) {
  const [width, height, left, bottom, right, top] = [560, 230, 52, 24, 12, 10];
  const state = choice('chart ' + title, { logarithmic: false });
  const drawing = make('div');
  const toggle = make('button', { type: 'button', 'aria-label': 'logarithmic time: ' + title, onclick: () => {
    state.logarithmic = !state.logarithmic;
    draw();
  } }, 'logarithmic time');
  function draw() {
    toggle.setAttribute('aria-pressed', String(state.logarithmic));
    const points = samples.map((sample, at) => [sample.t, value(sample, samples[at - 1])]).filter(([, y]) => Number.isFinite(y));
    if (points.length < 2) {
      drawing.replaceChildren(small('Too short a time to draw.'));
      return;
    }
    const end = points[points.length - 1][0], first = state.logarithmic ? Math.max(points[0][0], 1) : 0;
    const highest = Math.max(...points.map(([, y]) => y), 1);
    const at = t => state.logarithmic ? Math.log(Math.max(t, first) / first) / Math.log(end / first || 2) : t / end;
    const x = t => left + (width - left - right) * Math.min(at(t), 1);
    const y = v => height - bottom - (height - bottom - top) * v / highest;
    const picture = make('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': title });
    for (const v of scale(highest)) {
      picture.append(make('line', { class: 'grid', x1: left, x2: width - right, y1: y(v), y2: y(v) }),
        make('text', { class: 'tick', x: left - 6, y: y(v) + 4, 'text-anchor': 'end' }, count(Math.round(v))));
    }
    for (let step = 0; step <= 3; step++) {
      const t = state.logarithmic ? first * (end / first) ** (step / 3) : end * step / 3;
      picture.append(make('text', { class: 'tick', x: x(t), y: height - 6,
        'text-anchor': step === 0 ? 'start' : step === 3 ? 'end' : 'middle' }, time(t)));
    }
    for (const mark of marks) {
      picture.append(make('line', { class: 'mark', x1: x(mark.t), x2: x(mark.t), y1: top, y2: height - bottom },
        make('title', null, `${mark.name} at ${time(mark.t)}`)));
    }
    const to = ([t, v], n) => !n ? `M${x(t).toFixed(1)} ${y(v).toFixed(1)}`
      : stepped ? `H${x(t).toFixed(1)}V${y(v).toFixed(1)}` : `L${x(t).toFixed(1)} ${y(v).toFixed(1)}`;
    picture.append(make('path', { class: 'curve', d: points.map(to).join('') }));
    drawing.replaceChildren(picture);
  }
  draw();
  return make('div', { class: 'chart' }, make('div', { class: 'head' }, make('h3', null, title), toggle), drawing);
}
