// One namespace: what it is, and its tokens.

import { namespaceApi, SignedOut } from './api.js';
import { errorBox, errorWords, isDialogOpen } from './dialog.js';
import { announce, element, replaceChildren, showNote, uniqueId, withCode } from './dom.js';
import { openExplain } from './explain-dialog.js';
import { icon } from './icons.js';
import { text } from './text.js';
import { openDetails } from './token-details.js';
import { openDelete, openRegenerate } from './token-dialogs.js';
import { openEditToken, openNewToken } from './token-form.js';
import { SORT_KEYS, tokenTable } from './token-table.js';

const PAGE_SIZE = 50;
// After the last key of a search, in milliseconds.
const SEARCH_DELAY = 250;
// Somebody who comes back to this window after so many milliseconds sees the tokens as they are.
const STALE_AFTER = 30_000;

/** The view of a namespace. `stop` ends what it waits for. */
export function namespaceView(namespace) {
  const api = namespaceApi(namespace.name);
  // What the list shows: `cursors` leads from the first page to this one.
  const asked = { q: '', state: '', group: '', sort: '', cursors: [''] };
  let nextCursor = null;
  let total = 0;
  let shown = 0;
  let loadedAt = 0;
  let inProgress = null;
  let searchTimer;
  const stopped = new AbortController();

  const problem = errorBox();
  const newToken = element('button', {
    type: 'button', class: 'button button-primary', 'data-action': 'new-token', onclick: openNew,
  }, icon('plus'), text.newToken.open);
  const table = tokenTable({ onSort: sortBy, onDetails: details, menuItems, onRefused: showNote });
  const empty = element('div', { class: 'empty' });
  const tools = toolbar();
  const pager = pages();
  const heading = element('h2', { class: 'view-title', tabindex: '-1' }, text.tokens);
  const node = element('div', { class: 'view' },
    element('div', { class: 'view-head' }, element('div', {}, heading, about(namespace)), newToken),
    notices(namespace),
    element('section', { class: 'card', 'aria-label': text.tokensLabel },
      tools.node, problem.node, table.node, empty, pager.node));

  /**
   * Loads the list again, the old one staying in view. Returns whether the list is now what was
   * asked for.
   */
  async function load({ say = false } = {}) {
    inProgress?.abort();
    const loading = inProgress = new AbortController();
    node.classList.add('loading');
    table.node.setAttribute('aria-busy', 'true');
    const { q, state, group, sort, cursors } = asked;
    try {
      const answer = await api.tokens({ q, state, group, sort, cursor: cursors.at(-1), limit: PAGE_SIZE }, loading.signal);
      // The last token of a last page has gone.
      if (answer.tokens.length === 0 && cursors.length > 1) {
        asked.cursors = cursors.slice(0, -1);
        return load({ say });
      }
      ({ next_cursor: nextCursor, total } = answer);
      shown = answer.tokens.length;
      loadedAt = Date.now();
      problem.clear();
      table.show({ tokens: answer.tokens, order: sort });
      showEmpty();
      pager.show();
      if (say) announce(text.found(total));
      return true;
    } catch (error) {
      if (loading.signal.aborted || error instanceof SignedOut) return false;
      // A cursor that no longer leads anywhere: from the start again.
      if (cursors.length > 1 && error.status >= 400 && error.status < 500) {
        asked.cursors = [''];
        return load({ say });
      }
      problem.show(errorWords(error));
      return false;
    } finally {
      if (inProgress === loading) {
        node.classList.remove('loading');
        table.node.removeAttribute('aria-busy');
      }
    }
  }

  const isFiltered = () => Boolean(asked.q || asked.state || asked.group);

  function showEmpty() {
    const none = shown === 0;
    table.node.hidden = none;
    empty.hidden = !none;
    tools.node.hidden = none && !isFiltered();
    if (!none) {
      replaceChildren(empty);
    } else if (isFiltered()) {
      replaceChildren(empty, element('h3', {}, text.noMatch.title), element('p', {}, text.noMatch.lead),
        element('button', { type: 'button', class: 'button', onclick: clearFilters }, text.noMatch.clear));
    } else {
      replaceChildren(empty, element('div', { class: 'empty-sign' }, icon('key')),
        element('h3', {}, text.noTokens.title), element('p', {}, text.noTokens.lead));
    }
  }

  function askAnew(changes) {
    Object.assign(asked, changes, { cursors: [''] });
    load({ say: true });
  }

  function sortBy(order) {
    tools.showOrder(order);
    askAnew({ sort: order });
  }

  function clearFilters() {
    tools.clear();
    askAnew({ q: '', state: '', group: '' });
    tools.focus();
  }

  function toolbar() {
    const [searchId, stateId, groupId, sortId] = ['search', 'state', 'group', 'sort'].map(uniqueId);
    const search = element('input', {
      id: searchId, type: 'search', class: 'input', autocomplete: 'off', spellcheck: 'false', placeholder: text.search.placeholder,
      oninput: () => {
        clearTimeout(searchTimer);
        searchTimer = setTimeout(() => askAnew({ q: search.value.trim() }), SEARCH_DELAY);
      },
    });
    const choice = (id, key, options) => element('select', {
      id, class: 'input', onchange: (event) => askAnew({ [key]: event.target.value }),
    }, options.map(([value, words]) => element('option', { value }, words)));
    const state = choice(stateId, 'state', [['', text.filters.anyState], ...Object.entries(text.states)]);
    const group = choice(groupId, 'group', [['', text.filters.anyGroup], ...namespace.groups.map((name) => [name, name])]);
    const sort = choice(sortId, 'sort', [['', text.sortOrders.file],
      ...SORT_KEYS.flatMap(([key, words]) => [[key, text.sortOrders.up(words)], [`-${key}`, text.sortOrders.down(words)]])]);
    const refresh = element('button', {
      type: 'button', class: 'icon-button refresh', 'aria-label': text.refresh, title: text.refresh,
      onclick: async () => { if (await load()) announce(text.refreshed); },
    }, icon('refresh'));
    const labelled = (id, words, control, kind) =>
      element('div', { class: `tool ${kind}` }, element('label', { for: id }, words), control);
    return {
      node: element('div', { class: 'toolbar', role: 'search' },
        element('div', { class: 'tool tool-search' }, element('label', { for: searchId, class: 'for-readers' }, text.search.label),
          icon('search'), search),
        labelled(stateId, text.columns.state, state, 'tool-filter'),
        labelled(groupId, text.filters.group, group, 'tool-filter'),
        labelled(sortId, text.sortOrders.label, sort, 'tool-sort'),
        refresh),
      focus: () => search.focus(),
      showOrder: (order) => { sort.value = order; },
      clear() {
        clearTimeout(searchTimer);
        for (const control of [search, state, group]) control.value = '';
      },
    };
  }

  function pages() {
    const range = element('p', { class: 'pager-range' });
    const step = (name, words, action) => element('button', {
      type: 'button', class: 'button pager-button', onclick: (event) => { if (!isOff(event.currentTarget)) action(); },
    }, name === 'previous' && icon(name), words, name === 'next' && icon(name));
    const isOff = (button) => button.getAttribute('aria-disabled') === 'true';
    const turn = async () => {
      if (await load()) {
        announce(range.textContent);
        heading.scrollIntoView({ block: 'nearest' });
      }
    };
    const previous = step('previous', text.pager.previous, () => { asked.cursors.pop(); turn(); });
    const next = step('next', text.pager.next, () => { asked.cursors.push(nextCursor); turn(); });
    const buttons = element('div', { class: 'pager-buttons' }, previous, next);
    return {
      node: element('nav', { class: 'pager', 'aria-label': text.pager.label }, range, buttons),
      show() {
        const before = (asked.cursors.length - 1) * PAGE_SIZE;
        range.textContent = shown === 0 ? '' : text.pager.range(before + 1, before + shown, total);
        // Kept in place and focused when there is no further page, so that nobody loses their place.
        previous.setAttribute('aria-disabled', String(asked.cursors.length === 1));
        next.setAttribute('aria-disabled', String(nextCursor === null));
        buttons.hidden = asked.cursors.length === 1 && nextCursor === null;
        range.parentElement.hidden = shown === 0;
      },
    };
  }

  function menuItems(token) {
    // A new secret can be made for a file that only others can write: it is shown with what to paste.
    const whyNot = namespace.writable ? null : text.readOnly.action;
    return [
      { label: text.menu.regenerate, action: () => regenerate(token) },
      token.disabled
        ? { label: text.menu.enable, action: () => switchTo('enable', token), whyNot }
        : { label: text.menu.disable, action: () => switchTo('disable', token), whyNot },
      { label: text.menu.edit, action: () => edit(token), whyNot },
      { label: text.menu.explain, action: () => openExplain({ api, token, onDone: () => backTo(token.id) }) },
      { label: text.menu.delete, action: () => remove(token), danger: true, whyNot },
    ];
  }

  // After a change the list is loaded before the focus goes back: what had it is drawn anew.
  async function after(id, changed) {
    if (changed) await load();
    backTo(id);
  }

  function backTo(id) {
    if (!table.focusMenu(id)) heading.focus();
  }

  function openNew() {
    openNewToken({
      api,
      namespace,
      onDone: async (made) => {
        if (made) await load();
        newToken.focus();
      },
    });
  }

  function regenerate(token) {
    openRegenerate({ api, token, onEdit: () => edit(token), onDone: (changed) => after(token.id, changed) });
  }

  function edit(token) {
    return attempt(token, () => openEditToken({ api, namespace, id: token.id, onDone: (changed) => after(token.id, changed) }));
  }

  function remove(token) {
    openDelete({ api, token, onDone: (deleted) => after(token.id, deleted) });
  }

  function details(token) {
    openDetails({ token, onDone: () => { if (!table.focusName(token.id)) heading.focus(); } });
  }

  function switchTo(action, token) {
    return attempt(token, async () => {
      await api[action](token.id);
      await load();
      showNote(text.switched[action](token));
      backTo(token.id);
    });
  }

  // What fails here has no dialog to say so.
  async function attempt(token, work) {
    try {
      await work();
    } catch (error) {
      const words = errorWords(error);
      if (!words) return;
      await load();
      problem.show(words);
      backTo(token.id);
    }
  }

  document.addEventListener('visibilitychange', () => {
    const stale = Date.now() - loadedAt > STALE_AFTER;
    if (document.visibilityState === 'visible' && stale && !isDialogOpen()) load();
  }, { signal: stopped.signal });

  pager.show();
  empty.hidden = true;
  load();
  return {
    node,
    focus: () => newToken.focus(),
    stop() {
      clearTimeout(searchTimer);
      stopped.abort();
      inProgress?.abort();
    },
  };
}

// Where its models are, and whose routes the gate knows.
function about(namespace) {
  const endpoints = namespace.upstream?.endpoints ?? [];
  const facts = [
    [text.about.hosts, namespace.hosts],
    [text.about.upstream, endpoints],
    [text.about.profiles, namespace.profiles],
    [text.about.defaultModel, namespace.default_model ? [namespace.default_model] : []],
  ].filter(([, values]) => values?.length > 0);
  return element('dl', { class: 'about' }, facts.map(([term, values]) => element('div', {},
    element('dt', {}, term), element('dd', {}, values.map((value) => (value === '*' ? text.about.anyHost : value)).join(', ')))));
}

function notices(namespace) {
  const notice = (...content) => element('div', { class: 'notice notice-warning' }, icon('warning'), element('div', {}, ...content));
  return [
    !namespace.writable && notice(element('p', {}, element('strong', {}, text.readOnly.title), ' ', text.readOnly.lead),
      namespace.read_only_reason && element('p', { class: 'quiet' }, withCode(namespace.read_only_reason))),
    namespace.enforce === false && notice(element('p', {}, element('strong', {}, text.notEnforced.title), ' ', text.notEnforced.lead)),
  ];
}
