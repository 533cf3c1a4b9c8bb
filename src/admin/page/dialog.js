// Modal dialogs. The browser's own `dialog` keeps the focus inside and the rest of the page still.

import { Refused, SignedOut, Unreachable } from './api.js';
import { element, uniqueId, withCode } from './dom.js';
import { icon } from './icons.js';
import { text } from './text.js';

const open = new Set();

/**
 * Opens a dialog.
 *
 * `content` goes into it as it is. `mayClose` is asked when somebody presses Escape, and `false`
 * keeps it open. `onClose` comes after it has gone, and is where the focus is given back: what had
 * it may have been drawn anew meanwhile. Without `closeButton` it has none in its corner.
 */
export function openDialog({ title, content, kind, closeButton = true, mayClose, onClose }) {
  const titleId = uniqueId('dialog-title');
  const heading = element('h2', { id: titleId, class: 'dialog-title' }, title);
  // Dialogs have a status line of their own: what stands outside of a modal dialog is not read out.
  const status = element('p', { class: 'announcer', role: 'status' });
  const close = closeButton && element('button', {
    type: 'button', class: 'icon-button dialog-close', 'aria-label': text.close, onclick: () => node.close(),
  }, icon('close'));
  const body = element('div', { class: 'dialog-body' });
  body.append(...content);
  const node = element('dialog', { class: `dialog ${kind ?? ''}`, 'aria-labelledby': titleId },
    element('div', { class: 'dialog-head' }, heading, close), body, status);
  node.addEventListener('cancel', (event) => {
    // A file chooser or the like inside would send one of these, too.
    if (event.target === node && mayClose && !mayClose()) event.preventDefault();
  });
  node.addEventListener('close', () => {
    if (!open.delete(node)) return;
    node.remove();
    onClose?.();
  });
  document.body.append(node);
  open.add(node);
  node.showModal();
  return {
    node,
    body,
    close: () => node.close(),
    setTitle: (words) => { heading.textContent = words; },
    announce: (words) => { status.textContent = words; },
    /** Shows other content under another title, and takes the corner's button away. */
    become({ title: newTitle, content: newContent, kind: newKind, mayClose: mayCloseNow }) {
      heading.textContent = newTitle;
      close?.remove?.();
      body.replaceChildren(...newContent);
      node.className = `dialog ${newKind ?? ''}`;
      node.scrollTop = 0;
      mayClose = mayCloseNow;
    },
  };
}

/** Takes all dialogs away, and gives the focus back to nobody: the page behind them goes as well. */
export function closeAllDialogs() {
  for (const node of [...open]) {
    open.delete(node);
    node.close();
    node.remove();
  }
}

/** Whether one is open. */
export function isDialogOpen() {
  return open.size > 0;
}

/** The row of buttons at the end of a dialog. */
export function dialogButtons(...buttons) {
  return element('div', { class: 'dialog-buttons' }, ...buttons);
}

/** What to tell a person of an error; `null` when the page has already said it. */
export function errorWords(error) {
  if (error instanceof SignedOut) return null;
  if (error instanceof Unreachable) return text.errors.unreachable;
  if (error instanceof Refused) return text.errors.refused(error);
  throw error;
}

/** A place for what went wrong, which is read out when it comes. */
export function errorBox() {
  const box = element('div', { class: 'notice notice-error', role: 'alert', hidden: true });
  return {
    node: box,
    show(words) {
      box.replaceChildren(icon('warning'), element('p', {}, withCode(words)));
      box.hidden = false;
    },
    clear() {
      box.hidden = true;
      box.replaceChildren();
    },
  };
}

/** Keeps a button from being pressed again while `work` goes on; it keeps the focus. */
export async function whileBusy(button, work) {
  if (button.getAttribute('aria-disabled') === 'true') return;
  button.setAttribute('aria-disabled', 'true');
  button.classList.add('busy');
  try {
    await work();
  } finally {
    button.removeAttribute('aria-disabled');
    button.classList.remove('busy');
  }
}
