// The token page: signed out, it is a door; signed in, the namespaces the key opens.

import { onRefusedKey, signOut } from './api.js';
import { closeAllDialogs } from './dialog.js';
import { announce, element, replaceChildren } from './dom.js';
import { namespaceView } from './namespace-view.js';
import { signInView } from './sign-in.js';
import { text } from './text.js';

const page = document.getElementById('page');
let view = null;

function showSignIn(message) {
  leave();
  document.title = text.productName;
  const door = signInView({ message, onSignedIn: showNamespaces });
  replaceChildren(page, door.node);
  door.focus();
}

function leave() {
  closeAllDialogs();
  for (const note of document.querySelectorAll('.note')) note.remove();
  announce('');
  view?.stop();
  view = null;
}

function showNamespaces(namespaces) {
  document.title = text.pageTitle;
  const panel = element('div', { class: 'panel' });
  const tabs = namespaces.length > 1 ? namespaceTabs(namespaces, panel) : null;
  replaceChildren(page,
    element('header', { class: 'bar' },
      element('div', { class: 'bar-inner' },
        element('div', { class: 'brand' },
          element('img', { src: 'page/icon.svg', alt: '', width: 28, height: 28 }), element('h1', {}, text.productName)),
        element('div', { class: 'who' },
          namespaces[0]?.administrator
            && element('span', { class: 'who-name' }, text.signedInAs, ' ', element('bdi', {}, namespaces[0].administrator)),
          element('button', {
            type: 'button', class: 'button button-quiet', onclick: () => { signOut(); showSignIn(text.signIn.signedOut); },
          }, text.signOut))),
      tabs?.node),
    element('main', { class: 'main' }, panel));
  if (namespaces.length === 0) replaceChildren(panel, element('p', { class: 'empty' }, text.noNamespace));
  else if (tabs) tabs.choose(0);
  else show(namespaces[0], panel);
  view?.focus();
}

function show(namespace, panel) {
  view?.stop();
  view = namespaceView(namespace);
  replaceChildren(panel, view.node);
}

// One tab a namespace; the arrow keys go from one to the next, and the panel shows the chosen one.
function namespaceTabs(namespaces, panel) {
  const tabs = namespaces.map((namespace, index) => element('button', {
    type: 'button', role: 'tab', class: 'tab', id: `namespace-${index}`, 'aria-controls': 'namespace', onclick: () => choose(index),
  }, element('bdi', {}, namespace.name)));
  panel.id = 'namespace';
  panel.setAttribute('role', 'tabpanel');

  function choose(index) {
    tabs.forEach((tab, at) => {
      tab.setAttribute('aria-selected', String(at === index));
      tab.tabIndex = at === index ? 0 : -1;
    });
    panel.setAttribute('aria-labelledby', tabs[index].id);
    show(namespaces[index], panel);
  }

  function moved(event) {
    const at = tabs.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    const index = (to + tabs.length) % tabs.length;
    tabs[index].focus();
    choose(index);
  }

  return {
    node: element('div', { class: 'tabs', role: 'tablist', 'aria-label': text.namespaces, onkeydown: moved }, tabs),
    choose,
  };
}

onRefusedKey(() => {
  signOut();
  showSignIn(text.signIn.refusedLater);
});
// A page that the browser brings back from its memory would bring the key back with it.
window.addEventListener('pageshow', (event) => {
  if (event.persisted) {
    signOut();
    showSignIn();
  }
});
showSignIn();
