// What a resource may be: an id exactly, a prefix that ends in `*`, or `*` alone. The gate judges by
// the same rules again; here they help while somebody types.

import { text } from './text.js';

const MAX_BYTES = 256;

/** Why this is no resource pattern, in words; `null` when it is one. */
export function patternProblem(pattern) {
  const words = text.patternProblems;
  if (pattern === '') return words.empty;
  if (pattern === '*') return null;
  if (pattern.slice(0, -1).includes('*')) return words.starNotLast;
  if (new TextEncoder().encode(pattern).length > MAX_BYTES) return words.tooLong;
  if (/[\p{Cc}\s\u0085]/u.test(pattern)) return words.space;
  const forbidden = /[\\?#%;]/.exec(pattern);
  if (forbidden) return words.character(forbidden[0]);
  // The last segment of `org/*` is `*`, which is none of these.
  const segments = pattern.split('/');
  if (segments[0] === '' || segments.at(-1) === '') return words.slashAtEnd;
  if (segments.includes('')) return words.emptySegment;
  if (segments.includes('.') || segments.includes('..')) return words.dots;
  // `/*`, `../*` and the like are caught above; `..*` is a prefix like any other.
  return null;
}

/** What the pattern stands for, in words. */
export function patternMeaning(pattern) {
  if (pattern === '*') return text.patternMeanings.all;
  if (pattern.endsWith('*')) return text.patternMeanings.prefix(pattern.slice(0, -1));
  return text.patternMeanings.exact(pattern);
}
