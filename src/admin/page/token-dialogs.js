// What asks before it acts: a new secret, and the end of a token.

import { newIdempotencyKey, Refused } from './api.js';
import { dialogButtons, errorBox, errorWords, openDialog, whileBusy } from './dialog.js';
import { element, showNote, uniqueId } from './dom.js';
import { icon } from './icons.js';
import { showSecret } from './secret-box.js';
import { text } from './text.js';

const GRACE_PERIODS = ['0s', '1h', '24h', '7d'];

/** Regenerate: asks how long the old secret may live on, then shows the new one. */
export function openRegenerate({ api, token, onEdit, onDone }) {
  const words = text.regenerate;
  let edit = false;
  let changed = false;
  const dialog = openDialog({
    title: words.title, content: [], onClose: () => (edit ? onEdit() : onDone(changed)),
  });
  const cancel = element('button', { type: 'button', class: 'button', onclick: dialog.close }, text.cancel);
  if (token.state === 'expired') {
    const toEdit = element('button', {
      type: 'button', class: 'button button-primary', onclick: () => { edit = true; dialog.close(); },
    }, words.editExpiry);
    dialog.body.append(subject(token), element('p', {}, words.expired), dialogButtons(cancel, toEdit));
    toEdit.focus();
    return;
  }

  const name = uniqueId('grace');
  const grace = GRACE_PERIODS.map((period) => {
    const id = uniqueId('grace');
    const radio = element('input', { type: 'radio', id, name, value: period, checked: period === '0s' });
    return { radio, node: element('div', { class: 'segment' }, radio, element('label', { for: id }, words.gracePeriods[period])) };
  });
  const problem = errorBox();
  let idempotencyKey = newIdempotencyKey();
  const confirm = element('button', { type: 'submit', class: 'button button-primary' }, words.confirm);
  const form = element('form', {
    class: 'form',
    onsubmit: (event) => {
      event.preventDefault();
      whileBusy(confirm, async () => {
        problem.clear();
        const period = grace.find(({ radio }) => radio.checked).radio.value;
        try {
          const outcome = await api.regenerate(token.id, period, idempotencyKey);
          changed = true;
          showSecret(dialog, { title: words.made, lead: words.lead(outcome.token, period), outcome });
        } catch (error) {
          if (error instanceof Refused && error.reason === 'read_only_store' && error.problem.secret) {
            showSecret(dialog, { title: text.newToken.madeToPaste, lead: words.leadToPaste, outcome: error.problem });
            return;
          }
          if (error instanceof Refused) idempotencyKey = newIdempotencyKey();
          const said = errorWords(error);
          if (said) problem.show(said);
        }
      });
    },
  },
  element('p', {}, words.question),
  element('fieldset', { class: 'field' }, element('legend', {}, words.graceLabel),
    element('div', { class: 'segments' }, grace.map(({ node }) => node)),
    element('p', { class: 'hint' }, words.graceHint)),
  token.previous_valid_until && element('div', { class: 'notice notice-warning' }, icon('warning'),
    element('p', {}, words.endsEarlierOne)),
  problem.node, dialogButtons(cancel, confirm));
  dialog.body.append(subject(token), form);
  grace[0].radio.focus();
}

/** Delete: asks, then does. */
export function openDelete({ api, token, onDone }) {
  const words = text.deleteToken;
  let deleted = false;
  const dialog = openDialog({ title: words.title, content: [], onClose: () => onDone(deleted) });
  const problem = errorBox();
  const cancel = element('button', { type: 'button', class: 'button', onclick: dialog.close }, text.cancel);
  const confirm = element('button', {
    type: 'button',
    class: 'button button-danger',
    onclick: () => whileBusy(confirm, async () => {
      problem.clear();
      try {
        await api.delete(token.id);
      } catch (error) {
        // Somebody else was faster, and it is gone as wished.
        if (!(error instanceof Refused && error.status === 404)) {
          const said = errorWords(error);
          if (said) problem.show(said);
          return;
        }
      }
      deleted = true;
      dialog.close();
      showNote(words.done(token));
    }),
  }, words.confirm);
  dialog.body.append(subject(token), element('p', {}, words.question), problem.node, dialogButtons(cancel, confirm));
  cancel.focus();
}

/** Which token a dialog is about: its name, as somebody wrote it, and its id. */
export function subject(token) {
  return element('p', { class: 'dialog-subject' },
    token.name && element('bdi', { class: 'dialog-subject-name' }, token.name), element('code', {}, token.id));
}
