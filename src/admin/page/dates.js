// Dates as people read them; the exact moment is always in the element too.

import { element } from './dom.js';
import { text } from './text.js';

const MINUTE = 60;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

// The largest unit that fits, down to seconds.
const UNITS = [
  ['year', 365 * DAY],
  ['month', 30 * DAY],
  ['day', DAY],
  ['hour', HOUR],
  ['minute', MINUTE],
];

const distance = new Intl.RelativeTimeFormat(text.locale);
// `tomorrow`, but not `next year` for what is twelve months away.
const distanceInDays = new Intl.RelativeTimeFormat(text.locale, { numeric: 'auto' });
const calendarDay = new Intl.DateTimeFormat(text.locale, { day: 'numeric', month: 'short', year: 'numeric' });
const dayAndTime = new Intl.DateTimeFormat(text.locale, {
  day: 'numeric', month: 'short', year: 'numeric', hour: '2-digit', minute: '2-digit',
});
const exactMoment = new Intl.DateTimeFormat(text.locale, { dateStyle: 'full', timeStyle: 'long' });

/** How far a date is from now: `in 3 months`, `5 minutes ago`. Days are counted up to three months. */
export function fromNow(date, now = new Date()) {
  const seconds = (date - now) / 1000;
  const size = Math.abs(seconds);
  if (size < MINUTE) return seconds > 0 ? text.dates.inAMoment : text.dates.justNow;
  if (size < 90 * DAY && size >= DAY) return distanceInDays.format(Math.round(seconds / DAY), 'day');
  // What was a year a moment ago is still called one.
  const [unit, length] = UNITS.find(([, whole]) => size >= whole * 0.99);
  return distance.format(Math.round(seconds / length), unit);
}

/** `22 Feb 2027`. */
export function day(date) {
  return calendarDay.format(date);
}

/** `22 Feb 2027, 14:05`. */
export function moment(date) {
  return dayAndTime.format(date);
}

/** A `time` element that shows `shown` of a moment given as RFC 3339, and all of it when pointed at. */
export function timeElement(rfc3339, shown) {
  const date = new Date(rfc3339);
  return element('time', { datetime: rfc3339, title: exactMoment.format(date) }, shown(date));
}

/** Whole days from now until then; less than none when it is past. */
export function daysUntil(date, now = new Date()) {
  return (date - now) / 1000 / DAY;
}

/** Now and so many days. */
export function afterDays(days) {
  return new Date(Date.now() + days * DAY * 1000);
}

/** As the API writes moments: RFC 3339 in UTC, without fractions of a second. */
export function rfc3339(date) {
  return date.toISOString().replace(/\.\d+Z$/, 'Z');
}

/** What an `input type=date` holds for a day here. */
export function dateInputValue(date) {
  const two = (number) => String(number).padStart(2, '0');
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** The last second here of the day that an `input type=date` holds; `null` when it holds none. */
export function endOfDay(inputValue) {
  const parts = /^(\d{4,6})-(\d{2})-(\d{2})$/.exec(inputValue);
  if (!parts) return null;
  return new Date(Number(parts[1]), Number(parts[2]) - 1, Number(parts[3]), 23, 59, 59);
}
