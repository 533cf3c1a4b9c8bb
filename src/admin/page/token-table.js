// The table of tokens. On a narrow screen the same table is a list of cards, and stays a table to
// screen readers: its roles are written out, since browsers drop them with the layout.

import { element, replaceChildren } from './dom.js';
import { icon } from './icons.js';
import { menuButton } from './menu.js';
import { text } from './text.js';
import { expiryCell, graceNote, lastUsedCell, stateBadge, tags } from './token-details.js';

const MOST_TAGS = 4;

const COLUMNS = [
  { key: 'name', sort: 'name', role: 'rowheader' },
  { key: 'id', sort: 'id' },
  { key: 'resources' },
  { key: 'groups' },
  { key: 'state', sort: 'state' },
  { key: 'lastUsed', sort: 'last_used_at' },
  { key: 'expires', sort: 'expires_at' },
];

/** By what the table can be sorted, as `[key of the API, words]`. */
export const SORT_KEYS = COLUMNS.filter(({ sort }) => sort).map(({ key, sort }) => [sort, text.columns[key]]);

/**
 * The table, without rows. `onSort` is told the next order when a column's head is pressed;
 * `onDetails` which token's name was; `menuItems(token)` gives what its menu offers.
 */
export function tokenTable({ onSort, onDetails, menuItems, onRefused }) {
  const headers = COLUMNS.map(({ key, sort }) => {
    const words = text.columns[key];
    if (!sort) return { node: element('th', { role: 'columnheader', scope: 'col' }, words) };
    const sign = element('span', { class: 'sort-sign' });
    const button = element('button', { type: 'button', class: 'sort-button', 'data-focus-key': `sort-${sort}` }, words, sign);
    const node = element('th', { role: 'columnheader', scope: 'col' }, button);
    return { sort, node, sign, button };
  });
  const body = element('tbody', { role: 'rowgroup' });
  const node = element('table', { class: 'tokens', role: 'table', 'aria-label': text.tokensLabel },
    element('thead', { role: 'rowgroup' }, element('tr', { role: 'row' },
      headers.map(({ node: header }) => header),
      element('th', { role: 'columnheader', scope: 'col' }, element('span', { class: 'for-readers' }, text.columns.actions)))),
    body);

  // Up, down, and as in the file again.
  for (const header of headers.filter(({ sort }) => sort)) {
    header.button.addEventListener('click', () => {
      const order = header.node.getAttribute('aria-sort');
      onSort({ ascending: `-${header.sort}`, descending: '' }[order] ?? header.sort);
    });
  }

  function showOrder(order) {
    for (const { sort, node: header, sign } of headers) {
      if (!sort) continue;
      const now = order === sort ? 'ascending' : order === `-${sort}` ? 'descending' : null;
      if (now) header.setAttribute('aria-sort', now);
      else header.removeAttribute('aria-sort');
      sign.replaceChildren(icon(now ?? 'unsorted'));
    }
  }

  function row(token) {
    const label = token.name ?? token.id;
    const cells = {
      name: [
        element('button', {
          type: 'button', class: token.name ? 'name-button' : 'name-button quiet', 'aria-haspopup': 'dialog',
          'data-focus-key': `name-${token.id}`, onclick: () => onDetails(token),
        }, element('bdi', {}, token.name ?? text.noName)),
        graceNote(token),
      ],
      id: element('code', { translate: 'no' }, token.id),
      resources: tags(token.resources, MOST_TAGS),
      groups: tags(token.groups, MOST_TAGS),
      state: stateBadge(token.state),
      lastUsed: lastUsedCell(token.last_used_at),
      expires: expiryCell(token.expires_at),
    };
    return element('tr', { role: 'row', 'data-token-id': token.id, class: `row-${token.state}` },
      COLUMNS.map(({ key, role }) => element(role ? 'th' : 'td', {
        role: role ?? 'cell', scope: role ? 'row' : null, class: `cell cell-${key}`,
      }, element('span', { class: 'cell-label', 'aria-hidden': 'true' }, text.columns[key]),
      element('div', { class: 'cell-value' }, cells[key]))),
      element('td', { role: 'cell', class: 'cell cell-actions' }, menuButton({
        label: text.actionsOf(label), focusKey: `menu-${token.id}`, items: () => menuItems(token), onRefused,
      })));
  }

  return {
    node,
    show({ tokens, order }) {
      showOrder(order);
      const focused = node.contains(document.activeElement) ? document.activeElement.dataset.focusKey : undefined;
      replaceChildren(body, tokens.map(row));
      if (focused) focusOn(node, focused);
    },
    /** Puts the focus on the menu button of that token; whether it is in the table. */
    focusMenu: (id) => focusOn(node, `menu-${id}`),
    focusName: (id) => focusOn(node, `name-${id}`),
  };
}

function focusOn(node, key) {
  const found = node.querySelector(`[data-focus-key="${CSS.escape(key)}"]`);
  found?.focus();
  return found !== null;
}
