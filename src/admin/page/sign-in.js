// The page's door: one field for the administrator key.

import { canBeKey, Refused, signIn } from './api.js';
import { errorWords, whileBusy } from './dialog.js';
import { element, uniqueId } from './dom.js';
import { text } from './text.js';

/**
 * The form. `message` says why somebody is here again; `onSignedIn` is given the namespaces the key
 * opens.
 */
export function signInView({ message, onSignedIn }) {
  const words = text.signIn;
  const keyId = uniqueId('key');
  const hintId = uniqueId('key-hint');
  const errorId = uniqueId('key-error');
  const error = element('p', { id: errorId, class: 'field-message field-error', role: 'alert' });
  // Beside the alert and not read out by itself: once a second would be too much.
  const wait = element('p', { class: 'field-message field-error wait' });
  let countdown;
  const field = element('input', {
    id: keyId, type: 'password', class: 'input', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false',
    required: true, 'aria-describedby': `${errorId} ${hintId}`, oninput: () => show(''),
  });
  const submit = element('button', { type: 'submit', class: 'button button-primary button-wide' }, words.submit);

  function show(problem) {
    error.textContent = problem;
    if (problem) field.setAttribute('aria-invalid', 'true');
    else field.removeAttribute('aria-invalid');
  }

  function showWait(seconds) {
    clearInterval(countdown);
    const until = Date.now() + seconds * 1000;
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      wait.textContent = left > 0 ? words.secondsLeft(left) : words.tryNow;
      if (left <= 0 || !wait.isConnected) clearInterval(countdown);
    };
    countdown = setInterval(tick, 1000);
    tick();
  }

  async function enter(event) {
    event.preventDefault();
    const key = field.value.trim();
    clearInterval(countdown);
    wait.textContent = '';
    show('');
    // Tokens and administrator keys are easily taken for each other; a token stays here.
    const mistake = key === '' ? words.empty : key.startsWith('fg_') ? words.isToken : canBeKey(key) ? null : words.wrong;
    if (mistake) {
      show(mistake);
      field.focus();
      return;
    }
    await whileBusy(submit, async () => {
      try {
        const namespaces = await signIn(key);
        field.value = '';
        clearInterval(countdown);
        onSignedIn(namespaces);
      } catch (problem) {
        if (problem instanceof Refused && problem.status === 401) show(words.wrong);
        else if (problem instanceof Refused && problem.status === 429) {
          show(words.tooMany);
          showWait(problem.retryAfter ?? 1);
        } else show(errorWords(problem));
        field.focus();
        field.select();
      }
    });
  }

  const node = element('main', { class: 'sign-in' },
    element('div', { class: 'sign-in-card' },
      element('img', { class: 'sign-in-sign', src: 'page/icon.svg', alt: '', width: 44, height: 44 }),
      element('h1', {}, words.title),
      element('p', { class: 'lead' }, words.lead),
      message && element('div', { class: 'notice notice-warning', role: 'alert' }, element('p', {}, message)),
      element('form', { class: 'form', novalidate: true, autocomplete: 'off', onsubmit: enter },
        element('div', { class: 'field' }, element('label', { for: keyId }, words.label), field, error, wait,
          element('p', { id: hintId, class: 'hint' }, words.hint, ' ', element('code', {}, words.hintCommand))),
        submit)));
  return { node, focus: () => field.focus() };
}
