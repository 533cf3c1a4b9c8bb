// 150 tokens, `service 000` to `service 149`: found, put in order, and turned over page by page.

import assert from 'node:assert/strict';
import { scenario } from './watched-browser.mjs';

await scenario('many-tokens', async (page) => {
  const names = () => page.tab.locator('.name-button').allTextContents();
  const range = (words) => page.tab.locator('.pager-range', { hasText: words }).waitFor();
  const sort = (column) => page.button(column).click();
  const service = (number) => `service ${String(number).padStart(3, '0')}`;

  await page.enter();
  await range('1–50 of 150 tokens');
  assert.deepEqual(await names(), Array.from({ length: 50 }, (_, number) => service(number)), 'as in the file');
  await page.button('Next').click();
  await range('51–100 of 150 tokens');
  await page.button('Next').click();
  await range('101–150 of 150 tokens');
  assert.deepEqual((await names()).at(-1), service(149));
  assert.equal(await page.button('Next').getAttribute('aria-disabled'), 'true');
  await page.button('Previous').click();
  await range('51–100 of 150 tokens');
  assert.deepEqual((await names())[0], service(50));

  // Another order starts on the first page.
  await sort('Name');
  await page.tab.locator('th[aria-sort="ascending"]', { hasText: 'Name' }).waitFor();
  await range('1–50 of 150 tokens');
  await sort('Name');
  await page.tab.locator('th[aria-sort="descending"]', { hasText: 'Name' }).waitFor();
  assert.deepEqual((await names())[0], service(149));
  await page.button('Next').click();
  await range('51–100 of 150 tokens');
  assert.deepEqual((await names())[0], service(99));
  await sort('Name');
  await range('1–50 of 150 tokens');
  assert.equal(await page.tab.locator('th[aria-sort]').count(), 0);
  assert.deepEqual((await names())[0], service(0));

  // The gate searches, in names, ids and resources.
  const search = page.tab.getByRole('searchbox', { name: 'Search tokens' });
  await search.pressSequentially('service 14');
  await range('1–10 of 10 tokens');
  assert.deepEqual(await names(), Array.from({ length: 10 }, (_, number) => service(140 + number)));
  await search.fill('model-007');
  await range('1 token');
  assert.deepEqual(await names(), [service(7)]);
  await search.fill('nobody');
  await page.see('No token matches');
  await page.button('Clear search and filters').click();
  await range('1–50 of 150 tokens');
  assert.equal(await search.inputValue(), '');

  const choose = (label, value) => page.tab.getByRole('combobox', { name: label }).selectOption(value);
  await choose('State', 'Expired');
  await range('1–3 of 3 tokens');
  await choose('State', 'Disabled');
  await page.row(service(6)).waitFor();
  assert.deepEqual(await names(), [6, 7, 8].map(service));
  await choose('State', 'Any');
  await choose('Group', 'model-management');
  await range('1–15 of 15 tokens');

  // An expired token gets no new secret, but a way to a later date.
  await choose('Group', 'Any');
  await page.row(service(4)).waitFor();
  await page.choose(service(4), 'Regenerate…');
  await page.see('This token has expired.');
  await page.button('Edit the date').click();
  await page.dialog.getByRole('radio', { name: '30 days' }).check();
  await page.button('Save').click();
  await page.row(service(4)).getByText('Active').waitFor();

  // The same in a narrow window, where the order has a list of its own.
  await page.tab.setViewportSize({ width: 320, height: 700 });
  await choose('Sort by', 'Name, descending');
  await page.row(service(149)).waitFor();
  assert.deepEqual((await names())[0], service(149));
  const [content, room] = await page.tab.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= room, `${content} pixels in a window of 320`);
});
