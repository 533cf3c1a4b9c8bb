// The choice of when a token stops working.

import { afterDays, dateInputValue, day, endOfDay, moment, rfc3339 } from './dates.js';
import { element, uniqueId } from './dom.js';
import { text } from './text.js';

const PRESETS = [['30d', 30], ['90d', 90], ['365d', 365]];
const FURTHEST_YEAR = 9999;

/**
 * The field. For a token that exists, `current` is its `expires_at` (RFC 3339, or `null` for never)
 * and the first choice is to leave it; `undefined` is a token yet to be made.
 */
export function expiryField({ current }) {
  const words = text.expiryField;
  const name = uniqueId('expiry');
  const noteId = uniqueId('expiry-note');
  const errorId = uniqueId('expiry-error');
  const note = element('p', { id: noteId, class: 'hint', 'aria-live': 'polite' });
  const error = element('p', { id: errorId, class: 'field-message field-error', hidden: true });
  const keeps = current !== undefined;
  const choices = [
    ...(keeps ? [['keep', words.keep]] : []),
    ...PRESETS.map(([value]) => [value, words.presets[value]]),
    ['never', words.never],
    ['custom', words.custom],
  ];
  const radios = choices.map(([value, label]) => {
    const id = uniqueId('expiry');
    const radio = element('input', {
      type: 'radio', id, name, value, checked: value === (keeps ? 'keep' : '90d'), onchange: changed,
      'aria-describedby': noteId,
    });
    return { radio, node: element('div', { class: 'segment' }, radio, element('label', { for: id }, label)) };
  });
  const dateId = uniqueId('expiry-date');
  const date = element('input', {
    type: 'date', id: dateId, class: 'input', min: dateInputValue(new Date()), max: `${FURTHEST_YEAR}-12-31`,
    value: dateInputValue(afterDays(90)), oninput: changed, 'aria-describedby': `${errorId} ${noteId}`,
  });
  const dateRow = element('div', { class: 'date-row', hidden: true }, element('label', { for: dateId }, words.dateLabel), date);

  const chosen = () => radios.find(({ radio }) => radio.checked).radio.value;

  function expiry() {
    const days = PRESETS.find(([value]) => value === chosen())?.[1];
    if (days) return afterDays(days);
    if (chosen() === 'custom') return endOfDay(date.value);
    return null;
  }

  function changed() {
    dateRow.hidden = chosen() !== 'custom';
    showError(null);
    note.textContent = sentence();
  }

  function sentence() {
    if (chosen() === 'keep') return current === null ? words.staysNever : words.stays(moment(new Date(current)));
    if (chosen() === 'never') return words.neverNote;
    const at = expiry();
    if (at === null) return '';
    return chosen() === 'custom' ? words.until(moment(at)) : words.until(day(at));
  }

  function showError(message) {
    error.textContent = message ?? '';
    error.hidden = !message;
    if (message) date.setAttribute('aria-invalid', 'true');
    else date.removeAttribute('aria-invalid');
  }

  changed();
  return {
    node: element('fieldset', { class: 'field' },
      element('legend', {}, words.label),
      element('div', { class: 'segments' }, radios.map(({ node }) => node)), dateRow, error, note),
    focus: () => (chosen() === 'custom' ? date : radios.find(({ radio }) => radio.checked).radio).focus(),
    showError,
    clearError: () => showError(null),
    /** Whether what is chosen is a moment to come. */
    finish() {
      if (chosen() !== 'custom') return true;
      const at = expiry();
      const problem = at === null || at.getFullYear() > FURTHEST_YEAR ? words.noDate : at <= new Date() ? words.past : null;
      showError(problem);
      return problem === null;
    },
    /** For a new token: its part of the request. The gate counts presets from its own clock. */
    ofNewToken() {
      if (chosen() === 'never') return {};
      return chosen() === 'custom' ? { expires_at: rfc3339(expiry()) } : { expires_in: chosen() };
    },
    /** For a token that exists: its part of the change; nothing when it stays as it is. */
    ofChange() {
      if (chosen() === 'keep') return {};
      const at = expiry();
      return { expires_at: at === null ? null : rfc3339(at) };
    },
  };
}
