// Whatever an administrator's colleague calls a token, it is text and nothing else.

import assert from 'node:assert/strict';
import { callApi, scenario } from './watched-browser.mjs';

const HOSTILE = [
  '<img src=x onerror=alert(1)>',
  '</script><script>alert(2)</script>',
  '"><svg onload=alert(3)>',
  `' onmouseover='alert(4)`,
  'javascript:alert(5)',
  '{{constructor.constructor("alert(6)")()}}',
  '<style>*{display:none}</style>',
  '<iframe src="https://example.com/">',
  '&lt;b&gt;not bold&lt;/b&gt;',
  '\u202eright to left\u2066',
  '__proto__',
  'x'.repeat(200),
];
const PATTERNS = ['<img/src=x/onerror=alert(7)>', '"onmouseover="alert(8)', "'-alert(9)-'", '<b>*'];

await scenario('hostile-names', async (page) => {
  for (const name of HOSTILE) {
    await callApi('POST', 'namespaces/default/tokens', {
      name, resources: PATTERNS, groups: ['model-evaluation'], labels: { '<b>': name.slice(0, 60), note: '</dd><script>alert(10)</script>' },
    });
  }
  const elementsBefore = async () => page.tab.evaluate(() =>
    document.querySelectorAll('#page img:not([src="page/icon.svg"]), #page script, #page style, #page iframe, [onerror], [onload], [onmouseover], [style]').length);

  await page.enter();
  for (const name of HOSTILE) {
    const row = page.row(name);
    await row.waitFor();
    const menu = row.getByRole('button', { name: /^Actions for/ });
    assert.equal(await menu.getAttribute('aria-label'), `Actions for ${name}`);
    for (const pattern of PATTERNS) assert.equal(await row.getByText(pattern, { exact: true }).count(), 1, `${name}: ${pattern}`);

    await row.locator('.name-button').click();
    await page.dialog.getByText('</dd><script>alert(10)</script>').waitFor();
    assert.equal(await elementsBefore(), 0);
    await page.tab.keyboard.press('Escape');
    for (const entry of ['Regenerate…', 'Edit…', 'Explain…', 'Delete…']) {
      await menu.click();
      await page.tab.getByRole('menuitem', { name: entry }).click();
      await page.dialog.waitFor();
      assert.equal(await elementsBefore(), 0, `${entry} of ${name}`);
      await page.tab.keyboard.press('Escape');
      await page.dialogGone();
    }
  }

  // Through the page's own fields, and back in the notes it shows.
  await page.createToken({ name: HOSTILE[0] + HOSTILE[1], resources: PATTERNS, groups: ['model-evaluation'] });
  await page.closeBox();
  await page.choose(HOSTILE[0] + HOSTILE[1], 'Disable');
  await page.tab.locator('.note').getByText(HOSTILE[1]).waitFor();
  await page.tab.getByRole('searchbox').fill('<img src=x onerror=alert(11)>');
  await page.see('No token matches');
  assert.equal(await elementsBefore(), 0);
  // One overlong name makes no page wider than its window.
  await page.button('Clear search and filters').click();
  await page.row('x'.repeat(200)).waitFor();
  for (const width of [1200, 700, 320]) {
    await page.tab.setViewportSize({ width, height: 800 });
    const [content, room] = await page.tab.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
    assert.ok(content <= room, `${content} pixels in a window of ${width}`);
  }
});
