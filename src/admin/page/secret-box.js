// The green box: a new secret, shown this once.
//
// The secret is in one place, the text field that shows it, and goes with it: nothing here keeps a
// copy, and closing the dialog empties the field before it goes.

import { dialogButtons } from './dialog.js';
import { element, uniqueId } from './dom.js';
import { icon } from './icons.js';
import { text } from './text.js';

/**
 * Turns a dialog into the box. `outcome` is `{secret, warnings?}` as the API answered it; with a
 * `stanza`, nothing was saved and the box shows what to paste into the token file.
 */
export function showSecret(dialog, { title, lead, outcome }) {
  let reminded = false;
  const reminder = element('p', { class: 'reminder', role: 'alert', hidden: true }, text.secret.reminder);
  const secretField = shownOnce(text.secret.label, outcome.secret, 3, dialog, () => { reminder.hidden = true; });
  const stanzaField = outcome.stanza && shownOnce(text.secret.stanzaLabel, outcome.stanza, 8, dialog, () => {});
  const done = element('button', { type: 'button', class: 'button button-primary', onclick: dialog.close }, text.secret.done);
  dialog.node.addEventListener('close', () => {
    secretField.clear();
    stanzaField?.clear();
  });
  dialog.become({
    title,
    kind: 'dialog-secret',
    content: [
      outcome.stanza && element('div', { class: 'notice notice-warning' }, icon('warning'), element('p', {}, text.secret.notSaved)),
      element('div', { class: 'secret-box' },
        element('p', { class: 'secret-lead' }, icon('check'), element('span', {}, lead)),
        secretField.node,
        element('p', { class: 'secret-once' }, element('strong', {}, text.secret.once), ' ', text.secret.onceWhy)),
      stanzaField && element('div', { class: 'stanza' }, stanzaField.node),
      (outcome.warnings ?? []).map((warning) =>
        element('div', { class: 'notice notice-warning' }, icon('warning'), element('p', {}, warning))),
      element('p', { class: 'hint' }, text.secret.use, ' ', element('code', {}, text.secret.useHeader)),
      reminder,
      dialogButtons(done),
    ].flat().filter(Boolean),
    // One Escape too many must not cost the secret.
    mayClose: () => {
      if (secretField.wasCopied() || reminded) return true;
      reminded = true;
      reminder.hidden = false;
      return false;
    },
  });
  // Not scrolled to: it is in view, and so stays what stands above it.
  secretField.copyButton.focus({ preventScroll: true });
}

function shownOnce(label, value, rows, dialog, onCopied) {
  const id = uniqueId('secret');
  const field = element('textarea', {
    id, class: 'secret-value', rows, readonly: true, spellcheck: 'false', autocomplete: 'off', translate: 'no',
    onfocus: () => field.select(),
  });
  field.value = value;
  let copied = false;
  const caption = element('span', {}, text.secret.copy);
  const sign = element('span', { class: 'copy-sign' }, icon('copy'));
  let goBack;
  const copyButton = element('button', {
    type: 'button',
    class: 'button copy-button',
    onclick: async () => {
      copied = await copy(field) || copied;
      const words = copied ? text.secret.copied : text.secret.copyByHand;
      caption.textContent = words;
      sign.replaceChildren(icon(copied ? 'check' : 'copy'));
      copyButton.classList.toggle('copied', copied);
      dialog.announce(words);
      if (copied) onCopied();
      clearTimeout(goBack);
      goBack = setTimeout(() => {
        caption.textContent = text.secret.copy;
        sign.replaceChildren(icon('copy'));
        copyButton.classList.remove('copied');
        dialog.announce('');
      }, 4000);
    },
  }, sign, caption);
  // Copied by hand counts as well.
  field.addEventListener('copy', () => {
    copied = true;
    onCopied();
  });
  return {
    node: element('div', { class: 'shown-once' },
      element('label', { for: id }, label), element('div', { class: 'shown-once-row' }, field, copyButton)),
    copyButton,
    wasCopied: () => copied,
    clear: () => { field.value = ''; },
  };
}

// The clipboard is there for pages that came over TLS or from this machine; elsewhere the old
// command does it, and where neither works the text is selected for a person's own Ctrl+C.
async function copy(field) {
  try {
    await navigator.clipboard.writeText(field.value);
    return true;
  } catch {
    field.focus();
    field.select();
    return document.execCommand('copy');
  }
}
