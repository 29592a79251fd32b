'use strict';
// Builds the page from the data that lie in it. Text from outside gets in by textContent only.
const data = JSON.parse(document.getElementById('data').textContent);
const page = document.getElementById('page');

/** Makes an element: attributes by name, children as elements or text. */
function make(tag, attributes, ...children) {
  const space = ['svg', 'path', 'line', 'text', 'g', 'title'].includes(tag) && attributes && attributes.svg;
  const element = space ? document.createElementNS('http://www.w3.org/2000/svg', tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === 'svg' || value === undefined) continue;
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

function section(id, title, ...children) {
  nav.append(make('a', { href: '#' + id }, title));
  const element = make('section', { id }, make('h2', null, title), ...children);
  page.append(element);
  return element;
}

/** A table whose columns sort and whose rows can be filtered. Columns: title, value for sorting, optional content, class. */
function table(columns, rows, options = {}) {
  const body = make('tbody');
  let sorted = options.sort, down = options.down;
  let filter = options.filter || (() => true);
  const heads = columns.map((column, at) => make('th', { class: column.class, scope: 'col' },
    make('button', { type: 'button', onclick: () => { down = sorted === at ? !down : !column.class; sorted = at; draw(); } },
      column.title)));
  function draw() {
    heads.forEach((head, at) => at === sorted ? head.setAttribute('aria-sort', down ? 'descending' : 'ascending')
      : head.removeAttribute('aria-sort'));
    const shown = rows.filter(filter);
    if (sorted !== undefined) {
      const key = columns[sorted].value;
      shown.sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        const order = typeof x === 'string' ? x.localeCompare(y) : x - y;
        return down ? -order : order;
      });
    }
    body.replaceChildren(...shown.map(row => {
      const line = make('tr', { class: options.rowClass && options.rowClass(row) },
        ...columns.map(column => make('td', { class: column.class },
          column.content ? column.content(row) : typeof column.value(row) === 'number' ? count(column.value(row)) : column.value(row))));
      if (options.onrow) line.addEventListener('click', () => options.onrow(row, line));
      return line;
    }));
  }
  draw();
  return {
    element: make('div', { class: 'scroll', tabindex: '0' }, make('table', null, make('thead', null, make('tr', null, ...heads)), body)),
    filter(next) { filter = next; draw(); },
  };
}

/** A curve over time. Times of findings are marked. */
function chart(title, value, format = count) {
  const [width, height, left, bottom, right, top] = [420, 210, 52, 26, 10, 8];
  const holder = make('div', { class: 'chart' }, make('h3', null, title));
  let logarithmic = false;
  const drawing = make('div');
  const toggle = make('button', { type: 'button', 'aria-pressed': 'false', onclick: () => {
    logarithmic = !logarithmic;
    toggle.setAttribute('aria-pressed', String(logarithmic));
    draw();
  } }, 'logarithmic time');
  function draw() {
    const points = data.series.map((sample, at) => [sample.t, value(sample, data.series[at - 1])]).filter(([, y]) => Number.isFinite(y));
    if (points.length < 2) {
      drawing.replaceChildren(make('p', { class: 'dim small' }, 'Too short a time to draw.'));
      return;
    }
    const last = points[points.length - 1][0], first = logarithmic ? Math.max(points[0][0], 1) : 0;
    const highest = Math.max(...points.map(([, y]) => y), 1);
    const at = t => logarithmic ? Math.log(Math.max(t, first) / first) / Math.log(last / first || 2) : t / last;
    const x = t => left + (width - left - right) * Math.min(at(t), 1);
    const y = v => height - bottom - (height - bottom - top) * v / highest;
    const picture = make('svg', { svg: 1, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': title });
    for (let step = 0; step <= 4; step++) {
      const v = highest * step / 4;
      picture.append(make('line', { svg: 1, class: 'grid', x1: left, x2: width - right, y1: y(v), y2: y(v) }),
        make('text', { svg: 1, class: 'tick', x: left - 5, y: y(v) + 4, 'text-anchor': 'end' }, format(Math.round(v))));
    }
    for (let step = 0; step <= 3; step++) {
      const t = logarithmic ? first * (last / first) ** (step / 3) : last * step / 3;
      picture.append(make('text', { svg: 1, class: 'tick', x: x(t), y: height - 8,
        'text-anchor': step === 0 ? 'start' : step === 3 ? 'end' : 'middle' }, time(t)));
    }
    data.series.forEach((sample, n) => {
      if (sample.f > (n ? data.series[n - 1].f : 0)) {
        picture.append(make('line', { svg: 1, class: 'mark', x1: x(sample.t), x2: x(sample.t), y1: top, y2: height - bottom },
          make('title', { svg: 1 }, 'finding at ' + time(sample.t))));
      }
    });
    picture.append(make('path', { svg: 1, class: 'curve', d: points.map(([t, v], n) => (n ? 'L' : 'M') + x(t).toFixed(1) + ' ' + y(v).toFixed(1)).join('') }));
    drawing.replaceChildren(picture);
  }
  draw();
  holder.append(drawing, toggle);
  return holder;
}

const last = data.series[data.series.length - 1] || { t: 0, x: data.executions, c: 0, p: 0 };
const checks = (data.health && data.health.checks) || {};
const mismatches = checks.mismatches;
page.replaceChildren();
page.append(make('h1', null, 'Campaign on ' + data.campaign.target),
  make('p', { class: 'dim small' }, `build ${data.campaign.build} · seed ${data.seed} · ${count(data.campaign.sessions)} session(s) · hyperfuzz ${data.campaign.hyperfuzz}`
    + (data.campaign.plants.length ? ' · planted bugs: ' + data.campaign.plants.join(', ') : '')));
const nav = make('nav', { 'aria-label': 'sections' });
page.append(nav);
const tile = (value, name, mood) => make('div', { class: 'tile ' + (mood || '') }, make('b', null, value), make('span', null, name));
page.append(make('div', { class: 'tiles' },
  tile(count(data.findings.length + data.more_findings), 'findings', data.findings.length ? 'bad' : 'good'),
  tile(percent(data.edges[0], data.edges[1]), `of ${count(data.edges[1])} edges`),
  tile(count(last.x), 'executions'),
  tile(count(Math.round(last.t ? last.x / last.t : 0)), 'executions per second'),
  tile(count(last.c), 'hypercalls'),
  tile(count(last.p), 'programs in the corpus'),
  tile(time(last.t), 'of fuzzing')));

section('progress', 'Progress', make('div', { class: 'charts' },
  chart('Edges covered by the corpus', sample => sample.e),
  chart('Executions per second', (sample, before) => before && sample.t > before.t ? (sample.x - before.x) / (sample.t - before.t) : NaN),
  chart('Findings', sample => sample.f),
  chart('Programs in the corpus', sample => sample.p)));

/** Everything that is known of a finding. */
function finding(entry) {
  const block = (title, text) => text ? [make('h4', null, title), make('pre', null, text)] : [];
  const crash = entry.crash || {};
  const rate = entry.reproduction || {};
  return make('details', null,
    make('summary', null, entry.summary || entry.bucket),
    make('p', { class: 'small dim' }, `${entry.bucket} · reproduced ${rate.reproduced ?? '?'} of ${rate.runs ?? '?'} runs · found after `
      + `${count(entry.after_executions)} executions, ${time(entry.after_seconds || 0)} · ${entry.calls} calls, minimised from ${entry.calls_before}`),
    ...block('program', entry.program), ...block('calls', entry.transcript),
    ...block('stack of the hypervisor', (entry.stack || []).join('\n')), ...block('crash record', crash.message));
}
section('findings', 'Findings',
  ...(data.findings.length ? data.findings.map(finding) : [make('p', null, 'Nothing was found.')]),
  data.more_findings ? make('p', null, `${count(data.more_findings)} more are in the campaign's directory.`) : null);

const returned = row => row.ok + row.errors.reduce((sum, [, n]) => sum + n, 0);
const operations = table([
  { title: 'operation', value: row => row.name, class: 'text' },
  { title: 'calls', value: row => returned(row) + row.faulted },
  { title: 'succeeded', value: row => returned(row) ? row.ok / returned(row) : -1, content: row => percent(row.ok, returned(row)) },
  { title: 'errors', value: row => row.errors.length, class: 'text',
    content: row => row.errors.slice(0, 5).map(([name, n]) => `${name} ${percent(n, returned(row))}`).join(', ') },
  { title: 'faulted', value: row => row.faulted },
  { title: 'edges', value: row => row.edges },
], data.operations, { sort: 1, down: true, rowClass: row => returned(row) + row.faulted === 0 ? 'never' : row.ok === 0 ? 'poor' : '' });
const search = make('input', { type: 'search', placeholder: 'filter', 'aria-label': 'filter operations' });
const which = make('select', { 'aria-label': 'which operations' }, ...['all', 'never called', 'never succeeded'].map(name => make('option', null, name)));
const narrow = () => operations.filter(row => row.name.includes(search.value.trim())
  && (which.value === 'all' || (which.value === 'never called' ? returned(row) + row.faulted === 0 : row.ok === 0)));
search.addEventListener('input', narrow);
which.addEventListener('change', narrow);
section('operations', 'Operations',
  make('p', { class: 'small dim' }, 'Edges: those that were first covered by a program in which the operation occurs; an edge counts for each operation of that program.'),
  make('div', { class: 'bar' }, search, which), operations.element);

if (data.files.length) {
  const viewer = make('div', { class: 'source', tabindex: '0' });
  const meter = (part, whole) => make('span', null, make('span', { class: 'meter' }, make('i', { style: `width:${whole ? 100 * part / whole : 0}%` })), ' ' + percent(part, whole));
  function show(path, line) {
    const file = data.files.find(candidate => candidate.path === path);
    if (!file) return;
    const list = make('ol');
    file.text.split('\n').forEach((text, at) => {
      const state = file.states[at];
      list.append(make('li', { class: state === '1' ? 'hit' : state === '0' ? 'miss' : undefined }, text || ' '));
    });
    viewer.replaceChildren(list);
    document.getElementById('shown').textContent = path;
    for (const row of files.element.querySelectorAll('tbody tr')) row.classList.toggle('here', row.cells[0].textContent === path.replace('hypervisor/src/', ''));
    const wanted = list.children[line - 1];
    if (wanted) {
      wanted.classList.add('here');
      viewer.scrollTop = wanted.offsetTop - viewer.offsetTop - 120;
    }
  }
  const files = table([
    { title: 'file', value: file => file.path, class: 'text', content: file => file.path.replace('hypervisor/src/', '') },
    { title: 'covered', value: file => file.lines ? file.covered / file.lines : 0, content: file => meter(file.covered, file.lines) },
  ], data.files, { sort: 0, down: false, onrow: file => show(file.path, 1) });
  const covered = data.files.reduce((sum, file) => sum + file.covered, 0), lines = data.files.reduce((sum, file) => sum + file.lines, 0);
  section('source', 'Source',
    make('p', { class: 'small dim' }, `${count(covered)} of ${count(lines)} lines with code (${percent(covered, lines)}). Lines follow the nearest instrumented place before them: at the ends of branches single ones may be wrong.`),
    make('div', { class: 'split' }, make('div', { class: 'files' }, files.element), make('div', null, make('b', { id: 'shown', class: 'small' }), viewer)));
  const functions = data.files.flatMap(file => file.functions.map(([name, line, edges, hit]) => ({ file: file.path, name, line, edges, hit })));
  const functionTable = table([
    { title: 'function', value: row => row.name, class: 'text' },
    { title: 'file', value: row => row.file, class: 'text' },
    { title: 'edges', value: row => row.edges },
    { title: 'covered', value: row => row.hit / row.edges, content: row => meter(row.hit, row.edges) },
  ], functions, { sort: 2, down: true, onrow: row => { show(row.file, row.line); viewer.scrollIntoView({ block: 'nearest' }); } });
  const named = make('input', { type: 'search', placeholder: 'filter', 'aria-label': 'filter functions' });
  named.addEventListener('input', () => functionTable.filter(row => (row.file + ' ' + row.name).includes(named.value.trim())));
  page.lastElementChild.append(make('details', null, make('summary', null, `${count(functions.length)} functions`), make('div', { class: 'bar' }, named), functionTable.element));
  show((data.files.find(file => file.path.includes('/hypercall/')) || data.files[0]).path, 1);

  const next = table([
    { title: 'function', value: row => row.function, class: 'text' },
    { title: 'file', value: row => row.file, class: 'text' },
    { title: 'edges left', value: row => row.missing },
    { title: 'of', value: row => row.edges },
    { title: 'first lines', value: row => row.lines[0] || 0, class: 'text', content: row => make('span', null, ...row.lines.map(line =>
      make('button', { type: 'button', onclick: event => { event.stopPropagation(); show(row.file, line); viewer.scrollIntoView({ block: 'nearest' }); } }, String(line)))) },
    { title: 'reached by', value: row => row.operation || '', class: 'text' },
  ], data.frontier, { sort: 2, down: true });
  const idle = data.operations.filter(row => returned(row) + row.faulted > 0 && row.ok === 0).map(row => row.name);
  section('next', 'What was never reached',
    make('p', { class: 'small dim' }, 'Functions that were entered and have edges left. “Reached by” is the operation that their first programs have in common, more often than by chance: the call to look at first.'),
    idle.length ? make('p', { class: 'small' }, 'Called, and never successful: ' + idle.join(', ') + '.') : null, next.element);
}

section('health', 'Engine',
  make('div', { class: 'tiles' },
    tile(count(data.health && data.health.restarts), 'machines replaced', data.health && data.health.restarts ? 'bad' : ''),
    tile(count((data.health && data.health.workers) || 1), 'workers'),
    ...(mismatches === undefined ? [] : [tile(count(mismatches), 'mismatches with fresh machines', mismatches ? 'bad' : 'good')])),
  make('p', { class: 'small dim' }, 'Figures of the last session.'));
document.documentElement.dataset.ready = 'yes';
