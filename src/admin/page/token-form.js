// The dialogs that make a token and change one.

import { newIdempotencyKey, Refused } from './api.js';
import { dialogButtons, errorBox, errorWords, openDialog, whileBusy } from './dialog.js';
import { element, showNote, uniqueId } from './dom.js';
import { expiryField } from './expiry-field.js';
import { resourceField } from './resource-field.js';
import { showSecret } from './secret-box.js';
import { text } from './text.js';

const LONGEST_NAME = 200;

/** New Token: asks, makes it, and shows its secret. `onDone` comes last, with the new token or `null`. */
export function openNewToken({ api, namespace, onDone }) {
  let made = null;
  const dialog = openDialog({ title: text.newToken.title, content: [], onClose: () => onDone(made) });
  const fields = tokenFields({ groups: namespace.groups, token: null, say: dialog.announce });
  const form = fieldsForm({ dialog, fields, submitWords: text.newToken.create, submit });
  // One key for what the form says: pressing Create again after an answer got lost makes no second
  // token. Once the gate has said no, nothing was made, and what comes next is another request.
  let idempotencyKey = newIdempotencyKey();

  async function submit() {
    try {
      const outcome = await api.create(fields.newToken(), idempotencyKey);
      made = outcome.token;
      showSecret(dialog, {
        title: text.newToken.made, lead: text.newToken.lead(outcome.token), outcome,
      });
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.reason === 'read_only_store' && error.problem.secret) {
        showSecret(dialog, { title: text.newToken.madeToPaste, lead: text.newToken.leadToPaste, outcome: error.problem });
        return;
      }
      idempotencyKey = newIdempotencyKey();
      throw error;
    }
  }

  dialog.body.append(form);
  fields.focus();
}

/**
 * Edit: the token as it is now, and what was changed of it. `onDone` comes last, with whether
 * something was saved.
 */
export async function openEditToken({ api, namespace, id, onDone }) {
  let { token, generation } = await api.token(id);
  let saved = false;
  const dialog = openDialog({ title: text.editToken.title, content: [], onClose: () => onDone(saved) });
  let fields;

  function fill() {
    fields = tokenFields({ groups: namespace.groups, token, say: dialog.announce });
    const form = fieldsForm({ dialog, fields, submitWords: text.editToken.save, submit });
    dialog.body.replaceChildren(element('p', { class: 'dialog-subject' }, element('code', {}, token.id)), form);
    fields.focus();
  }

  async function submit(problem) {
    const changes = fields.changes();
    if (Object.keys(changes).length > 0 && !await save(changes, problem)) return;
    saved = Object.keys(changes).length > 0;
    dialog.close();
    if (saved) showNote(text.editToken.saved);
  }

  // The generation is of the whole file. When it moved on, what counts is whether this token did:
  // if not, the change is made to the file as it is now; if so, a person looks at it again.
  async function save(changes, problem) {
    for (;;) {
      try {
        await api.change(id, changes, generation);
        return true;
      } catch (error) {
        if (!(error instanceof Refused) || error.status !== 412) throw error;
        const before = editable(token);
        ({ token, generation } = await api.token(id));
        if (editable(token) === before) continue;
        fill();
        problem.show(text.editToken.changedMeanwhile);
        dialog.body.prepend(problem.node);
        return false;
      }
    }
  }

  fill();
}

// What the form shows of a token, to compare.
function editable({ name, resources, groups, expires_at: expiresAt }) {
  return JSON.stringify([name, resources, groups, expiresAt]);
}

function fieldsForm({ dialog, fields, submitWords, submit }) {
  const problem = errorBox();
  const button = element('button', { type: 'submit', class: 'button button-primary' }, submitWords);
  return element('form', {
    class: 'form', novalidate: true, autocomplete: 'off',
    onsubmit: (event) => {
      event.preventDefault();
      whileBusy(button, async () => {
        problem.clear();
        if (!fields.finish()) return;
        try {
          await submit(problem);
        } catch (error) {
          const words = errorWords(error);
          const shown = error instanceof Refused && fields.showErrors(error.fieldErrors());
          if (words && !shown) problem.show(words);
        }
      });
    },
  }, fields.nodes, problem.node, dialogButtons(
    element('button', { type: 'button', class: 'button', onclick: dialog.close }, text.cancel), button));
}

// The four fields, filled from a token or empty.
function tokenFields({ groups, token, say }) {
  const name = nameField(token?.name ?? '');
  const resources = resourceField({ resources: token?.resources ?? [], say });
  const group = groupField({ groups, chosen: token?.groups ?? [] });
  const expiry = expiryField({ current: token ? token.expires_at : undefined });
  const fields = { name, resources, groups: group, expires_at: expiry, expires_in: expiry };
  const inOrder = [name, resources, group, expiry];
  const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

  function changes() {
    const changed = expiry.ofChange();
    if (name.value() !== (token.name ?? '')) changed.name = name.value() || null;
    if (!same(resources.value(), token.resources)) changed.resources = resources.value();
    if (!same([...group.value()].sort(), [...token.groups].sort())) changed.groups = group.value();
    return changed;
  }

  return {
    nodes: inOrder.map(({ node }) => node),
    focus: name.focus,
    newToken: () => ({
      ...(name.value() && { name: name.value() }),
      resources: resources.value(),
      groups: group.value(),
      ...expiry.ofNewToken(),
    }),
    changes,
    /** Whether all of it can be sent; else says what cannot and goes there. */
    finish() {
      const wrong = [];
      for (const field of inOrder) field.clearError();
      if (!resources.finish()) wrong.push(resources);
      if (!name.finish()) wrong.push(name);
      if (!expiry.finish()) wrong.push(expiry);
      // A token that may do nothing is of no use; one that came so from the file stays as it is.
      const left = token ? changes() : { resources: resources.value(), groups: group.value() };
      if (left.resources?.length === 0 && !wrong.includes(resources)) {
        resources.showError(text.resourceField.none);
        wrong.push(resources);
      }
      if (left.groups?.length === 0) {
        group.showError(text.groupField.none);
        wrong.push(group);
      }
      inOrder.find((field) => wrong.includes(field))?.focus();
      return wrong.length === 0;
    },
    /** Shows `[field, words]` beside the fields; whether each had one. */
    showErrors(errors) {
      const known = errors.filter(([field]) => fields[field]);
      for (const [field, words] of known) fields[field].showError(words);
      inOrder.find((field) => known.some(([key]) => fields[key] === field))?.focus();
      return errors.length > 0 && known.length === errors.length;
    },
  };
}

function nameField(initial) {
  const words = text.nameField;
  const id = uniqueId('name');
  const errorId = uniqueId('name-error');
  const hintId = uniqueId('name-hint');
  const error = element('p', { id: errorId, class: 'field-message field-error', hidden: true });
  const input = element('input', {
    id, class: 'input', type: 'text', autocomplete: 'off', 'aria-describedby': `${errorId} ${hintId}`,
    oninput: () => showError(null),
  });
  input.value = initial;

  function showError(message) {
    error.textContent = message ?? '';
    error.hidden = !message;
    if (message) input.setAttribute('aria-invalid', 'true');
    else input.removeAttribute('aria-invalid');
  }

  return {
    node: element('div', { class: 'field' },
      element('label', { for: id }, words.label, ' ', element('span', { class: 'optional' }, text.optional)),
      input, error, element('p', { id: hintId, class: 'hint' }, words.hint)),
    focus: () => input.focus(),
    value: () => input.value.trim(),
    showError,
    clearError: () => showError(null),
    finish() {
      const tooLong = [...input.value.trim()].length > LONGEST_NAME;
      showError(tooLong ? words.tooLong(LONGEST_NAME) : null);
      return !tooLong;
    },
  };
}

function groupField({ groups, chosen }) {
  const words = text.groupField;
  const errorId = uniqueId('groups-error');
  const error = element('p', { id: errorId, class: 'field-message field-error', hidden: true });
  // A group that the token has and no route asks for any more is shown, or saving would drop it.
  const all = [...groups, ...chosen.filter((group) => !groups.includes(group))];
  const boxes = all.map((group) => {
    const id = uniqueId('group');
    const meaningId = uniqueId('group-meaning');
    const meaning = groups.includes(group) ? words.meanings[group] : words.unused;
    const box = element('input', {
      type: 'checkbox', id, value: group, checked: chosen.includes(group),
      'aria-describedby': meaning ? `${meaningId} ${errorId}` : errorId, onchange: () => showError(null),
    });
    return {
      box,
      node: element('div', { class: 'check' }, box, element('label', { for: id },
        element('bdi', { class: 'check-name' }, group)), meaning && element('span', { id: meaningId, class: 'hint' }, meaning)),
    };
  });

  function showError(message) {
    error.textContent = message ?? '';
    error.hidden = !message;
  }

  return {
    node: element('fieldset', { class: 'field' }, element('legend', {}, words.label),
      boxes.map(({ node }) => node), error,
      all.length === 0 && element('p', { class: 'hint' }, words.noGroups)),
    focus: () => boxes[0]?.box.focus(),
    value: () => boxes.filter(({ box }) => box.checked).map(({ box }) => box.value),
    showError,
    clearError: () => showError(null),
  };
}
