// Without a mouse: from the door to a token, through the menu of its row, and out again.

import assert from 'node:assert/strict';
import { adminKey, scenario, statusOfCall } from './watched-browser.mjs';

// More stops than any part of the page has.
const MOST_STOPS = 40;

await scenario('keyboard', async (page) => {
  const { keyboard } = page.tab;
  const tabTo = async (name) => {
    const passed = [];
    while (passed.length < MOST_STOPS) {
      await keyboard.press('Tab');
      const here = await page.focused();
      if (name instanceof RegExp ? name.test(here) : here === name) return;
      passed.push(here);
    }
    assert.fail(`Tab never comes to ${name}, but to ${passed.join(', ')}`);
  };
  const assertFocusIsSeen = async () => {
    const width = await page.tab.evaluate(() => {
      const shown = document.activeElement.matches('.segment input') ? document.activeElement.nextElementSibling : document.activeElement;
      return parseFloat(getComputedStyle(shown.matches('.chip-input') ? shown.parentElement : shown).outlineWidth);
    });
    assert.ok(width >= 2, `an outline around ${await page.focused()}`);
  };

  assert.equal(await page.focused(), 'Administrator key');
  await keyboard.type(adminKey);
  await keyboard.press('Enter');
  await page.see('No tokens yet');
  assert.equal(await page.focused(), 'New Token');
  await assertFocusIsSeen();

  await keyboard.press('Enter');
  await page.dialog.waitFor();
  assert.match(await page.focused(), /^Name/);
  await keyboard.type('by keyboard');
  await tabTo('Resources');
  await assertFocusIsSeen();
  await keyboard.type('iris*');
  await keyboard.press('Enter');
  await keyboard.type('wrong');
  await keyboard.press('Enter');
  await page.button('Remove wrong').waitFor();
  await keyboard.press('Backspace');
  await page.button('Remove wrong').waitFor({ state: 'detached' });
  await tabTo('model-evaluation');
  await assertFocusIsSeen();
  await keyboard.press('Space');
  await tabTo('90 days');
  await assertFocusIsSeen();
  await keyboard.press('ArrowRight');
  assert.equal(await page.focused(), '1 year');
  await tabTo('Create');
  await keyboard.press('Enter');
  const secret = await page.shownSecret();
  assert.equal(await page.focused(), 'Copy', 'the next thing to do has the focus');
  await keyboard.press('Enter');
  await page.button('Copied').waitFor();
  assert.equal(await page.tab.evaluate(() => navigator.clipboard.readText()), secret);
  assert.equal(await statusOfCall(secret), 200);
  await tabTo('Done');
  await keyboard.press('Enter');
  await page.dialogGone();
  await page.row('by keyboard').waitFor();

  // The focus is back on New Token when the list has come.
  await page.tab.locator('[data-action="new-token"]:focus').waitFor();
  await tabTo('Actions for by keyboard');
  await assertFocusIsSeen();
  await keyboard.press('ArrowDown');
  assert.equal(await page.focused(), 'Regenerate…');
  await keyboard.press('ArrowUp');
  assert.equal(await page.focused(), 'Delete…');
  await keyboard.press('Home');
  await keyboard.press('e');
  assert.equal(await page.focused(), 'Edit…');
  await keyboard.press('Escape');
  assert.equal(await page.focused(), 'Actions for by keyboard');
  assert.equal(await page.tab.getByRole('menu').count(), 0);

  await keyboard.press('Enter');
  await keyboard.press('ArrowDown');
  await keyboard.press('Enter');
  await page.row('by keyboard').getByText('Disabled').waitFor();
  assert.equal(await statusOfCall(secret), 401);
  await page.tab.locator('[aria-label="Actions for by keyboard"]:focus').waitFor();

  // A dialog keeps the focus in itself, and Escape gives it back.
  await keyboard.press('ArrowUp');
  await keyboard.press('Enter');
  await page.dialog.waitFor();
  for (let stop = 0; stop < 6; stop += 1) {
    await keyboard.press('Tab');
    assert.ok(await page.tab.evaluate(() => document.activeElement === document.body || document.activeElement.closest('dialog') !== null),
      'Tab stays in the dialog');
  }
  await keyboard.press('Escape');
  await page.dialogGone();
  assert.equal(await page.focused(), 'Actions for by keyboard');

  // The heads of the columns sort.
  await keyboard.press('Shift+Tab');
  await keyboard.press('Shift+Tab');
  assert.equal(await page.focused(), 'Expires');
  await keyboard.press('Enter');
  await page.tab.locator('th[aria-sort="ascending"]', { hasText: 'Expires' }).waitFor();
  await page.loaded();
  assert.equal(await page.focused(), 'Expires');

  // On from the end of the page, it begins anew.
  await tabTo('Sign out');
  await keyboard.press('Enter');
  await page.see('You are signed out.');
  assert.equal(await page.focused(), 'Administrator key');
});
