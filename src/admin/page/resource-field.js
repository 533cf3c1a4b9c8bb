// The field for resources: each becomes a chip when it is entered, and what is being typed is judged
// at once.

import { element, replaceChildren, uniqueId } from './dom.js';
import { icon } from './icons.js';
import { patternMeaning, patternProblem } from './pattern.js';
import { text } from './text.js';

/** The field, with these resources in it. `say` reads a sentence out. */
export function resourceField({ resources: initial, say }) {
  const words = text.resourceField;
  const inputId = uniqueId('resources');
  const hintId = uniqueId('hint');
  const messageId = uniqueId('message');
  let resources = [...initial];

  const chips = element('ul', { class: 'chips', 'aria-label': words.listLabel });
  const message = element('p', { id: messageId, class: 'field-message', 'aria-live': 'polite' });
  // What is left in it is taken when the form is sent, not when the focus goes: the click that takes
  // the focus away would miss what it was meant for when things move.
  const input = element('input', {
    id: inputId, type: 'text', class: 'chip-input', autocomplete: 'off', autocapitalize: 'off', spellcheck: 'false',
    translate: 'no', placeholder: words.placeholder, 'aria-describedby': `${messageId} ${hintId}`,
    oninput: typed,
    onpaste: pasted,
    onkeydown: keyed,
  });
  const box = element('div', { class: 'chip-box', onclick: (event) => { if (event.target === box) input.focus(); } }, chips, input);

  function typed() {
    // A space ends an id: none can hold one.
    if (/\s/.test(input.value) && input.value.trim()) take(input.value);
    else tell(input.value.trim());
  }

  function pasted(event) {
    const several = event.clipboardData.getData('text');
    if (!/\s/.test(several.trim())) return;
    event.preventDefault();
    take(`${input.value}${several}`);
  }

  function keyed(event) {
    if (event.key === 'Enter' && input.value.trim()) {
      // Not the whole form yet: first what stands here.
      event.preventDefault();
      take(input.value);
    } else if (event.key === 'Backspace' && input.value === '' && resources.length > 0) {
      remove(resources.at(-1));
    }
  }

  // One id a line, or with spaces between; a comma before a space is no part of an id.
  function take(entered) {
    const left = [];
    for (const pattern of entered.split(/,?\s+/).map((piece) => piece.replace(/,$/, '')).filter(Boolean)) {
      if (patternProblem(pattern)) left.push(pattern);
      else if (!resources.includes(pattern)) resources.push(pattern);
    }
    input.value = left.join(' ');
    draw();
    tell(left[0] ?? '');
    if (left.length === 0) say(words.now(resources));
  }

  function remove(pattern) {
    resources = resources.filter((other) => other !== pattern);
    draw();
    tell(input.value.trim());
    say(words.removed(pattern));
    input.focus();
  }

  function draw() {
    input.placeholder = resources.length === 0 ? words.placeholder : '';
    chips.hidden = resources.length === 0;
    replaceChildren(chips, resources.map((pattern) => element('li', { class: 'chip', title: patternMeaning(pattern) },
      element('bdi', {}, pattern),
      element('button', {
        type: 'button', class: 'chip-remove', 'aria-label': words.remove(pattern), onclick: () => remove(pattern),
      }, icon('close')))));
  }

  function tell(pattern) {
    const problem = pattern && patternProblem(pattern);
    if (problem) showError(problem);
    else show(pattern ? patternMeaning(pattern) : resources.includes('*') ? words.everything : '', false);
  }

  function show(sentence, isError) {
    message.textContent = sentence;
    message.classList.toggle('field-error', isError);
    box.classList.toggle('invalid', isError);
    if (isError) input.setAttribute('aria-invalid', 'true');
    else input.removeAttribute('aria-invalid');
  }

  function showError(problem) {
    show(problem, true);
  }

  draw();
  tell('');
  return {
    node: element('div', { class: 'field' },
      element('label', { for: inputId }, words.label),
      box, message,
      element('p', { id: hintId, class: 'hint' }, words.hint)),
    focus: () => input.focus(),
    showError,
    clearError: () => tell(input.value.trim()),
    /** Takes what is still in the input; whether all of it is well-formed. */
    finish() {
      if (input.value.trim()) take(input.value);
      return input.value.trim() === '';
    },
    value: () => [...resources],
  };
}
