// Explain: whether a token may make a request, and which rule says so.

import { SignedOut } from './api.js';
import { errorBox, errorWords, openDialog, whileBusy } from './dialog.js';
import { element, replaceChildren, uniqueId, withCode } from './dom.js';
import { icon } from './icons.js';
import { text } from './text.js';
import { subject } from './token-dialogs.js';

const METHODS = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'HEAD', 'OPTIONS'];

/** The dialog, for one token. */
export function openExplain({ api, token, onDone }) {
  const words = text.explain;
  const dialog = openDialog({ title: words.title, kind: 'dialog-wide', content: [], onClose: onDone });
  const [methodId, pathId, bodyId, listId] = ['method', 'path', 'body', 'paths'].map(uniqueId);
  const method = element('select', { id: methodId, class: 'input' },
    METHODS.map((name) => element('option', { value: name, selected: name === 'POST' }, name)));
  const known = element('datalist', { id: listId });
  const path = element('input', {
    id: pathId, class: 'input', type: 'text', required: true, autocomplete: 'off', autocapitalize: 'off',
    spellcheck: 'false', placeholder: words.pathPlaceholder, list: listId,
  });
  const body = element('textarea', { id: bodyId, class: 'input code', rows: 3, spellcheck: 'false', autocomplete: 'off' });
  const problem = errorBox();
  const answer = element('div', { class: 'answer', 'aria-live': 'polite' });
  const ask = element('button', { type: 'submit', class: 'button button-primary' }, words.ask);

  const form = element('form', {
    class: 'form', novalidate: true, autocomplete: 'off',
    onsubmit: (event) => {
      event.preventDefault();
      whileBusy(ask, async () => {
        problem.clear();
        if (path.value.trim() === '') {
          problem.show(words.noPath);
          path.focus();
          return;
        }
        const question = { token_id: token.id, method: method.value, path: path.value.trim() };
        if (body.value !== '') {
          question.body = body.value;
          question.headers = { 'content-type': 'application/json' };
        }
        try {
          replaceChildren(answer, verdict(await api.explain(question)));
        } catch (error) {
          replaceChildren(answer);
          const said = errorWords(error);
          if (said) problem.show(said);
        }
      });
    },
  },
  element('div', { class: 'explain-request' },
    element('div', { class: 'field' }, element('label', { for: methodId }, words.method), method),
    element('div', { class: 'field' }, element('label', { for: pathId }, words.path), path, known)),
  element('details', { class: 'field' }, element('summary', {}, words.bodySummary),
    element('label', { for: bodyId }, words.body), body),
  problem.node,
  element('div', { class: 'dialog-buttons' },
    element('button', { type: 'button', class: 'button', onclick: dialog.close }, text.close), ask));
  dialog.body.append(subject(token), form, answer);
  path.focus();
  offerRoutes(api, known);
}

// The routes in force, to choose from; without them the field is as good.
async function offerRoutes(api, known) {
  try {
    const { routes } = await api.routes();
    const paths = new Set(routes.map((route) => route.path));
    replaceChildren(known, [...paths].map((path) => element('option', { value: path })));
  } catch (error) {
    if (!(error instanceof SignedOut)) replaceChildren(known);
  }
}

function verdict({ allowed, reason, would_deny: wouldDeny, route, steps }) {
  const words = text.explain;
  return element('section', { class: allowed ? 'verdict verdict-yes' : 'verdict verdict-no' },
    element('h3', {}, icon(allowed ? 'check' : 'close'), allowed ? words.yes : words.no),
    !allowed && element('p', {}, words.reason, ' ', element('code', {}, reason)),
    wouldDeny && element('p', {}, words.wouldDeny, ' ', element('code', {}, wouldDeny)),
    route && element('p', {}, words.route, ' ',
      element('code', {}, `${(route.methods ?? []).join(', ')} ${route.path}`.trim()),
      route.group && [' ', words.routeGroup, ' ', element('code', {}, route.group)]),
    element('ol', { class: 'steps' }, (steps ?? []).map(({ rule, found }) =>
      element('li', {}, element('span', { class: 'step-rule' }, rule), ' ', element('span', {}, withCode(found))))));
}
