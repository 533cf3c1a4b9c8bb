// A button that opens a menu, with the keys people know from menus elsewhere (the ARIA Authoring
// Practices' menu button).

import { element, uniqueId } from './dom.js';
import { icon } from './icons.js';

/**
 * The button and its menu. `items` is called when it opens and gives `{label, action, danger,
 * whyNot}`: with a `whyNot` the item can be read but not used, and `onRefused` is told the reason.
 */
export function menuButton({ label, focusKey, items, onRefused }) {
  const menuId = uniqueId('menu');
  const button = element('button', {
    type: 'button',
    class: 'icon-button menu-button',
    'aria-label': label,
    'aria-haspopup': 'menu',
    'aria-expanded': 'false',
    'data-focus-key': focusKey,
  }, icon('more'));
  const holder = element('div', { class: 'menu-holder' }, button);
  let menu = null;

  const entries = () => [...menu.children];
  const focusEntry = (index) => entries().at(index % entries().length).focus();

  function openMenu(index) {
    if (menu) return;
    menu = element('div', { id: menuId, class: 'menu', role: 'menu', 'aria-label': label }, items().map(entry));
    holder.append(menu);
    button.setAttribute('aria-expanded', 'true');
    button.setAttribute('aria-controls', menuId);
    const { bottom } = menu.getBoundingClientRect();
    const { top } = button.getBoundingClientRect();
    const height = menu.offsetHeight;
    if (bottom > document.documentElement.clientHeight && top > height) menu.classList.add('menu-above');
    document.addEventListener('pointerdown', closeFromOutside, true);
    focusEntry(index);
  }

  function closeMenu() {
    if (!menu) return;
    document.removeEventListener('pointerdown', closeFromOutside, true);
    const closing = menu;
    menu = null;
    closing.remove();
    button.setAttribute('aria-expanded', 'false');
    button.removeAttribute('aria-controls');
  }

  function closeFromOutside(event) {
    if (!holder.contains(event.target)) closeMenu();
  }

  function entry({ label: words, action, danger, whyNot }) {
    return element('button', {
      type: 'button',
      class: danger ? 'menu-item menu-item-danger' : 'menu-item',
      role: 'menuitem',
      tabindex: '-1',
      'aria-disabled': whyNot ? 'true' : null,
      title: whyNot,
      onclick: () => {
        closeMenu();
        button.focus();
        if (whyNot) onRefused(whyNot);
        else action();
      },
    }, words);
  }

  button.addEventListener('click', () => (menu ? closeMenu() : openMenu(0)));
  button.addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowDown' && event.key !== 'ArrowUp') return;
    event.preventDefault();
    openMenu(event.key === 'ArrowDown' ? 0 : -1);
  });
  holder.addEventListener('focusout', (event) => {
    if (event.relatedTarget && !holder.contains(event.relatedTarget)) closeMenu();
  });
  holder.addEventListener('keydown', (event) => {
    if (!menu || !menu.contains(event.target)) return;
    const at = entries().indexOf(event.target);
    switch (event.key) {
      case 'ArrowDown': focusEntry(at + 1); break;
      case 'ArrowUp': focusEntry(at - 1); break;
      case 'Home': focusEntry(0); break;
      case 'End': focusEntry(-1); break;
      case 'Escape': closeMenu(); button.focus(); break;
      // The focus goes on from the button, as if the menu had not been there.
      case 'Tab': button.focus(); closeMenu(); return;
      default: {
        if (event.key.length !== 1 || event.key === ' ' || event.ctrlKey || event.metaKey || event.altKey) return;
        const letter = event.key.toLowerCase();
        const after = [...entries().slice(at + 1), ...entries().slice(0, at + 1)];
        after.find((item) => item.textContent.toLowerCase().startsWith(letter))?.focus();
      }
    }
    event.preventDefault();
  });
  return holder;
}
