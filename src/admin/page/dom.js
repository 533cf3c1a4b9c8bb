// Makes elements. Whatever text comes from outside becomes a text node or an attribute's value:
// nothing on this page is ever parsed as HTML.

const SVG = 'http://www.w3.org/2000/svg';

/**
 * An element. A function among the attributes (`onclick`, `oninput`) listens to that event; `true`
 * is an attribute without a value; `false`, `null` and `undefined` leave it out. Children are nodes
 * and texts, and lists of them.
 */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** As {@link element}, in SVG. */
export function svgElement(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === 'function') {
      node.addEventListener(key.slice('on'.length), value);
    } else if (value === true) {
      node.setAttribute(key, '');
    } else if (value !== false && value !== null && value !== undefined) {
      node.setAttribute(key, value);
    }
  }
  node.append(...present(children));
  return node;
}

/** Puts these children in the place of all that the node has. */
export function replaceChildren(node, ...children) {
  node.replaceChildren(...present(children));
}

function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** A sentence of the gate's, in which `` `code` `` stands between grave accents, as nodes. */
export function withCode(sentence) {
  const pieces = sentence.split('`');
  // An accent without its partner is only a character.
  if (pieces.length % 2 === 0) return [sentence];
  return pieces.map((piece, at) => (at % 2 === 1 ? element('code', {}, piece) : piece));
}

let lastId = 0;

/** An id that no other element has. */
export function uniqueId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

/** Says something to people who do not see the page change. */
export function announce(words) {
  document.getElementById('announcer').textContent = words;
}

/**
 * Says what has been done, to everybody: a note at the foot of the window that goes away by itself,
 * and the same words for screen readers.
 */
export function showNote(words) {
  for (const old of document.querySelectorAll('.note')) {
    old.remove();
  }
  const note = element('p', { class: 'note', 'aria-hidden': 'true' }, words);
  document.body.append(note);
  announce(words);
  setTimeout(() => note.remove(), 6000);
}
