// All that is known of a token, with exact times; and the small signs the table shows as well.

import { day, daysUntil, fromNow, moment, timeElement } from './dates.js';
import { openDialog } from './dialog.js';
import { element } from './dom.js';
import { text } from './text.js';
import { subject } from './token-dialogs.js';

const SOON_DAYS = 14;

/** `active`, `expired` or `disabled`, as a badge. */
export function stateBadge(state) {
  return element('span', { class: `badge badge-${state}` }, text.states[state] ?? state);
}

/** When it expires, for the table: the day, and how far that is when it is near. */
export function expiryCell(expiresAt) {
  if (expiresAt === null) return element('span', { class: 'quiet' }, text.never);
  const away = daysUntil(new Date(expiresAt));
  const near = away > 0 && away < SOON_DAYS;
  return element('span', {}, timeElement(expiresAt, day), element('br'),
    element('span', { class: near ? 'soon' : 'quiet' }, fromNow(new Date(expiresAt))));
}

/** When it was last used, for the table. */
export function lastUsedCell(lastUsedAt) {
  return lastUsedAt === null ? element('span', { class: 'quiet' }, text.neverUsed) : timeElement(lastUsedAt, fromNowOnly);
}

const fromNowOnly = (date) => fromNow(date);

/** Texts as small boxes: resources, groups, labels. The first `most` of them, and how many more. */
export function tags(texts, most = Infinity) {
  if (texts.length === 0) return element('span', { class: 'quiet' }, text.nothing);
  const shown = texts.length > most ? texts.slice(0, most - 1) : texts;
  const more = texts.length - shown.length;
  return element('ul', { class: 'tags' },
    shown.map((words) => element('li', { class: 'tag' }, element('bdi', {}, words))),
    more > 0 && element('li', { class: 'tag tag-more', title: texts.slice(shown.length).join('\n') }, text.andMore(more)));
}

/** That the secret before this one is still good, until when, and whether anybody uses it. */
export function graceNote(token) {
  if (!token.previous_valid_until || new Date(token.previous_valid_until) <= new Date()) return null;
  return element('p', { class: 'grace-note' },
    text.grace.until, ' ', timeElement(token.previous_valid_until, moment), ', ',
    token.previous_last_used_at === null
      ? text.grace.unused
      : [text.grace.lastUsed, ' ', timeElement(token.previous_last_used_at, fromNowOnly)]);
}

/** The dialog with everything. */
export function openDetails({ token, onDone }) {
  const words = text.details;
  const at = (rfc3339, none) => (rfc3339 === null
    ? none
    : [timeElement(rfc3339, moment), ' ', element('span', { class: 'quiet' }, `(${fromNow(new Date(rfc3339))})`)]);
  const rows = [
    [words.state, stateBadge(token.state)],
    [words.resources, tags(token.resources)],
    [words.groups, tags(token.groups)],
    [words.created, at(token.created_at, text.unknown)],
    [words.expires, at(token.expires_at, text.never)],
    [words.lastUsed, at(token.last_used_at, text.neverUsed)],
    [words.requests, words.counts(token.requests, token.denied)],
    token.previous_valid_until && [words.previousUntil, at(token.previous_valid_until)],
    token.previous_valid_until && [words.previousLastUsed, at(token.previous_last_used_at, text.neverUsed)],
    token.limits && [words.limits, tags(Object.entries(token.limits)
      .filter(([, value]) => value !== null)
      .map(([key, value]) => words.limit(key, value)))],
    Object.keys(token.labels ?? {}).length > 0
      && [words.labels, tags(Object.entries(token.labels).map(([key, value]) => `${key} = ${value}`))],
  ].filter(Boolean);
  openDialog({
    title: words.title,
    content: [
      subject(token),
      element('dl', { class: 'details' }, rows.map(([term, value]) =>
        element('div', { class: 'details-row' }, element('dt', {}, term), element('dd', {}, value)))),
      element('p', { class: 'hint' }, words.countsHint),
    ],
    onClose: onDone,
  });
}
