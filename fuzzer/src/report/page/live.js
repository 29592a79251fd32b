// Only in the page that is served: fetches the data again and again, and draws them where they have changed.
{
  const status = document.body.appendChild(document.createElement('p'));
  status.id = 'live';
  status.setAttribute('role', 'status');
  const every = 1000 * Number(document.documentElement.dataset.refresh);
  let seen = document.documentElement.dataset.tag;

  /** Draws, and puts the reader back where they were. */
  function redraw(data) {
    const places = () => [...document.querySelectorAll('[data-place]')];
    const before = new Map(places().map(element => [element.dataset.place, [element.scrollLeft, element.scrollTop]]));
    const [x, y] = [scrollX, scrollY];
    const focus = document.activeElement && document.activeElement.getAttribute('aria-label');
    const cursor = document.activeElement && document.activeElement.selectionStart;
    draw(data);
    for (const element of places()) [element.scrollLeft, element.scrollTop] = before.get(element.dataset.place) || [0, 0];
    const focused = focus && document.querySelector(`[aria-label="${CSS.escape(focus)}"]`);
    if (focused) {
      focused.focus({ preventScroll: true });
      if (typeof cursor === 'number') focused.setSelectionRange(cursor, cursor);
    }
    scrollTo(x, y);
  }

  async function refresh() {
    try {
      const answer = await fetch('data.json', { cache: 'no-cache' });
      if (!answer.ok) throw new Error(await answer.text());
      const tag = answer.headers.get('etag');
      if (tag !== seen) {
        redraw(await answer.json());
        seen = tag;
        document.documentElement.dataset.refreshed = tag;
      }
      status.className = '';
      status.textContent = 'live · ' + new Date().toLocaleTimeString('en-GB');
    } catch (error) {
      status.className = 'bad';
      status.textContent = 'not refreshed: ' + error.message;
    }
    setTimeout(refresh, every);
  }
  setTimeout(refresh, every);
}
