// Builds the page from the campaign's data, section by section.

const returned = row => row.ok + row.errors.reduce((sum, [, n]) => sum + n, 0);
const called = row => returned(row) + row.faulted > 0;
const short = path => path.replace('hypervisor/src/', '');

function progress(data) {
  const samples = [{ t: 0, x: 0, c: 0, e: 0, p: 0, f: 0 }, ...data.series];
  const marks = samples.filter((sample, at) => at && sample.f > samples[at - 1].f)
    .map(sample => ({ t: sample.t, name: 'finding' }));
  const rate = (sample, before) => before && sample.t > before.t ? Math.max(0, sample.x - before.x) / (sample.t - before.t) : NaN;
  return ['Progress', make('div', { class: 'charts' },
    chart('Edges covered by the corpus', samples, sample => sample.e, marks),
    chart('Executions per second', samples, rate, marks),
    chart('Findings', samples, sample => sample.f, marks, true),
    chart('Programs in the corpus', samples, sample => sample.p, marks)),
    small('Red lines are the moments of findings. The time between sessions does not count.')];
}

/** Everything that is known of a finding. */
function finding(entry) {
  const block = (title, text) => text ? [make('h4', null, title), make('pre', { tabindex: '0' }, text)] : [];
  const crash = entry.crash || {}, rate = entry.reproduction || {}, mark = entry.mark || {}, seen = entry.seen, listing = entry.disassembly;
  const instructions = listing && `${listing.function}+0x${Number(listing.offset).toString(16)}\n\n`
    + (listing.lines || []).map(line => `${line.marked ? '=>' : '  '} ${line.address}  ${line.text}`).join('\n');
  const summary = make('span', { class: 'finding' }, make('b', null, entry.summary || entry.bucket),
    make('span', { class: 'small dim' }, make('i', { class: 'status ' + mark.status }, mark.status || 'new'), ` ${time(entry.after_seconds || 0)} · ${rate.reproduced ?? '?'} of ${rate.runs ?? '?'} runs · ${some(entry.calls, 'call')}`));
  return opening(entry.bucket, summary,
    small(`${entry.bucket} · found ${time(entry.after_seconds || 0)} and ${count(entry.after_executions)} executions after its session began · minimised from `
      + `${some(entry.calls_before, 'call')} · seed ${entry.seed}`),
    seen ? small(`seen ${some(seen.times, 'time')} in ${some(seen.sessions, 'session')}, first ${seen.first}, last ${seen.last} (UTC)`) : null,
    mark.reason || mark.note ? small(`marked ${mark.status}: ${[mark.reason, mark.note].filter(Boolean).join('; ')}`) : null,
    ...block('program', entry.program), ...block('calls', entry.transcript),
    ...block('stack of the hypervisor', (entry.stack || []).join('\n')), ...block('instruction that faulted', instructions),
    ...block('crash record', crash.message));
}

function findings(data) {
  const also = data.unconfirmed ? small(`${some(data.unconfirmed, 'more candidate')} did not reproduce on a clean boot: no findings.`) : null;
  return ['Findings',
    ...(data.findings.length ? data.findings.map(finding) : [make('p', null, 'Nothing was found.')]),
    data.more_findings ? make('p', null, `${count(data.more_findings)} more are in the campaign's directory.`) : null, also];
}

function operations(data) {
  return ['Operations',
    small('Edges: those that were first covered by a program in which the operation occurs; an edge counts for each operation of that program.'),
    table('operations', [
      { title: 'operation', value: row => row.name, class: 'text name' },
      { title: 'calls', value: row => returned(row) + row.faulted },
      { title: 'succeeded', value: row => returned(row) ? row.ok / returned(row) : -1, content: row => percent(row.ok, returned(row)) },
      { title: 'errors', value: row => row.errors.length ? row.errors[0][0] : '', class: 'text',
        content: row => row.errors.slice(0, 5).map(([name, n]) => `${name} ${percent(n, returned(row))}`).join(', ') },
      { title: 'faulted', value: row => row.faulted },
      { title: 'edges', value: row => row.edges },
    ], data.operations, { sort: 1, down: true, text: row => row.name, rowClass: row => !called(row) ? 'never' : row.ok === 0 ? 'poor' : undefined,
      kinds: { all: () => true, 'never called': row => !called(row), 'never succeeded': row => row.ok === 0 } })];
}

/** Shows a source file, and the line that was asked for. */
function show(data, path, line) {
  const file = data.files.find(candidate => candidate.path === path) || data.files[0];
  const viewer = document.getElementById('viewer');
  Object.assign(choice('source', {}), { path: file.path, line });
  const states = { 1: 'hit', 0: 'miss' };
  const list = make('ol', null, ...file.text.split('\n').map((text, at) => make('li', { class: states[file.states[at]] }, text || ' ')));
  viewer.replaceChildren(list);
  document.getElementById('shown').replaceChildren(short(file.path) + ' ', meter(file.covered, file.lines));
  for (const row of document.querySelectorAll('#table-files tbody tr')) row.classList.toggle('here', row.cells[0].textContent === short(file.path));
  const wanted = list.children[line - 1];
  if (wanted && line > 1) {
    wanted.classList.add('here');
    viewer.scrollTop = wanted.offsetTop - 120;
  } else {
    viewer.scrollTop = 0;
  }
}

function jump(data, path, line) {
  show(data, path, line);
  document.getElementById('viewer').scrollIntoView({ block: 'nearest' });
}

function source(data) {
  const covered = data.files.reduce((sum, file) => sum + file.covered, 0), lines = data.files.reduce((sum, file) => sum + file.lines, 0);
  const functions = data.files.flatMap(file => file.functions.map(([name, line, edges, hit]) => ({ file: file.path, name, line, edges, hit })));
  const files = table('files', [
    { title: 'file', value: file => file.path, class: 'text', content: file => short(file.path) },
    { title: 'covered', value: file => file.lines ? file.covered / file.lines : 0, content: file => meter(file.covered, file.lines) },
  ], data.files, { sort: 0, text: file => file.path, onrow: file => show(data, file.path, 1) });
  return ['Source',
    small(`${count(covered)} of ${count(lines)} lines with code (${percent(covered, lines)}). Lines follow the nearest instrumented place before them: at the ends of branches single ones may be wrong.`),
    make('div', { class: 'split' }, make('div', { class: 'files' }, files),
      make('div', null, make('p', { id: 'shown', class: 'small' }), make('div', { class: 'source', id: 'viewer', tabindex: '0', 'data-place': 'viewer' }))),
    opening('functions', `${count(functions.length)} functions`, table('functions', [
      { title: 'function', value: row => row.name, class: 'text' },
      { title: 'file', value: row => row.file, class: 'text', content: row => short(row.file) },
      { title: 'edges', value: row => row.edges },
      { title: 'covered', value: row => row.hit / row.edges, content: row => meter(row.hit, row.edges) },
    ], functions, { sort: 2, down: true, text: row => row.file + ' ' + row.name, onrow: row => jump(data, row.file, row.line),
      kinds: { all: () => true, 'never entered': row => row.hit === 0, 'entered in part': row => row.hit > 0 && row.hit < row.edges } }))];
}

/** Whether coverage still grows. */
function plateau(data) {
  const state = data.plateau;
  if (!state) return small('Too short a time to say whether coverage still grows.');
  const share = percent(state.late, state.edges);
  const verdict = { growing: 'Coverage is growing.', slow: 'Coverage grows slowly.', still: 'Coverage stands still.' }[state.state];
  return make('p', { id: 'plateau' }, make('b', { class: state.state }, verdict),
    ` The last new edge came after ${time(state.last)} of ${time(state.total)}; ${some(state.executions, 'execution')} since then covered nothing new. `
    + `${some(state.late, 'edge')} (${share}) came in the second half of the time.`);
}

function next(data) {
  const names = (title, rows) => rows.length ? opening(title, `${some(rows.length, 'operation was', 'operations were')} ${title}`, make('p', { class: 'small' }, rows.map(row => row.name).join(', '))) : null;
  const lines = row => make('span', { class: 'lines' }, ...row.lines.map(line =>
    make('button', { type: 'button', onclick: () => jump(data, row.file, line) }, String(line))));
  return ['What was never reached', plateau(data),
    small('Functions that were entered and have edges left. “Reached by” is the operation that their first programs have in common, more often than by chance: the call to look at first.'),
    names('never called', data.operations.filter(row => !called(row))),
    names('called, and never successful', data.operations.filter(row => called(row) && row.ok === 0)),
    data.files.length ? table('frontier', [
      { title: 'function', value: row => row.function, class: 'text' },
      { title: 'file', value: row => row.file, class: 'text', content: row => short(row.file) },
      { title: 'edges left', value: row => row.missing },
      { title: 'of', value: row => row.edges },
      { title: 'reached by', value: row => row.operation || '', class: 'text' },
      { title: 'first lines', value: row => row.lines[0] || 0, class: 'text', content: lines },
    ], data.frontier, { sort: 2, down: true, text: row => row.file + ' ' + row.function + ' ' + (row.operation || '') })
      : small('Functions are shown by the hyperfuzz that carries the build that was fuzzed.')];
}

function health(data) {
  const last = data.health || {}, checks = last.checks || {};
  const rate = last.seconds ? last.executions / last.seconds : 0;
  const bad = number => number ? 'bad' : 'good';
  return ['Engine',
    make('div', { class: 'tiles' },
      tile(count(last.workers || 1), 'workers'),
      tile(count(Math.round(rate)), 'executions per second'),
      tile(last.executions ? (last.calls / last.executions).toFixed(1) : '-', 'calls per program'),
      tile(count(last.restarts), 'machines replaced', bad(last.restarts)),
      tile(count(checks.passed), 'self-checks passed'),
      tile(count(checks.mismatches), 'mismatches with fresh machines', bad(checks.mismatches)),
      tile(count(checks.skipped), 'self-checks skipped', checks.skipped ? 'warn' : '')),
    small('Figures of the last session. A self-check executes a program again on a machine that is booted for it, and compares everything.')];
}

/** Builds everything anew. */
function draw(data) {
  const last = data.series[data.series.length - 1] || { t: 0, x: data.executions, c: 0, p: 0 };
  const nav = make('nav', { 'aria-label': 'sections' });
  const campaign = data.campaign;
  const content = [
    make('h1', null, 'Campaign on ' + campaign.target),
    small(`build ${campaign.build} · seed ${data.seed} · ${some(campaign.sessions, 'session')} · hyperfuzz ${campaign.hyperfuzz}`
      + (campaign.plants.length ? ' · planted bugs: ' + campaign.plants.join(', ') : '')),
    nav,
    make('div', { class: 'tiles' },
      tile(count(data.findings.length + data.more_findings), 'findings', data.findings.length ? 'bad' : 'good'),
      tile(percent(data.edges[0], data.edges[1]), `of ${count(data.edges[1])} edges`),
      tile(count(last.x), 'executions'),
      tile(count(Math.round(last.t ? last.x / last.t : 0)), 'executions per second'),
      tile(count(last.c), 'hypercalls'),
      tile(count(last.p), 'programs in the corpus'),
      tile(time(last.t), 'of fuzzing'))];
  const parts = { progress, findings, operations, source: data.files.length ? source : null, next, health };
  for (const [id, part] of Object.entries(parts)) {
    if (!part) continue;
    const [title, ...elements] = part(data);
    nav.append(make('a', { href: '#' + id }, title));
    content.push(make('section', { id }, make('h2', null, title), ...elements));
  }
  document.getElementById('page').replaceChildren(...content);
  if (data.files.length) {
    const first = data.files.find(file => file.path.includes('/hypercall/')) || data.files[0];
    const { path, line } = choice('source', { path: first.path, line: 1 });
    show(data, path, line);
  }
}

draw(JSON.parse(document.getElementById('data').textContent));
document.documentElement.dataset.ready = 'yes';
