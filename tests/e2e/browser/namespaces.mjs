// Two namespaces: `fraud`, and `vision`, whose token file cannot be written.

import assert from 'node:assert/strict';
import { scenario } from './watched-browser.mjs';

await scenario('namespaces', async (page) => {
  const tab = (name) => page.tab.getByRole('tab', { name });
  const chosen = async (name) => assert.equal(await tab(name).getAttribute('aria-selected'), 'true', name);

  await page.enter();
  await chosen('fraud');
  await page.see('fraud.example.com');
  assert.equal(await page.tab.getByRole('row', { name: /service/ }).count(), 2);
  const panel = page.tab.getByRole('tabpanel', { name: 'fraud' });
  await panel.waitFor();

  await tab('fraud').focus();
  await page.tab.keyboard.press('ArrowRight');
  await chosen('vision');
  assert.equal(await page.focused(), 'vision');
  await page.row('service 002').waitFor();
  await page.see('This token file is read-only here.');
  await page.see('its mode lets nobody write it');
  await page.tab.keyboard.press('ArrowRight');
  await chosen('fraud');
  await tab('vision').click();
  await page.row('service 002').waitFor();

  // A secret, and what to paste.
  page.expectStatus(409, 2);
  const secret = await page.createToken({ name: 'for Git', resources: ['iris*'], groups: ['model-evaluation'] });
  await page.see('Nothing was saved');
  const stanza = await page.dialog.getByRole('textbox', { name: 'For the token file' }).inputValue();
  assert.match(stanza, /^\[\[token\]\]$/m);
  assert.match(stanza, /^name *= "for Git"$/m);
  assert.match(stanza, /^hash *= "blake3:[0-9a-f]{64}"$/m);
  assert.ok(!stanza.includes(secret), 'the file gets the hash');
  await page.closeBox();
  assert.ok(!(await page.readableText()).includes(secret));

  await page.choose('service 001', 'Regenerate…');
  await page.dialog.getByRole('button', { name: 'Regenerate' }).click();
  await page.shownSecret();
  assert.match(await page.dialog.getByRole('textbox', { name: 'For the token file' }).inputValue(), /tk_service001/);
  await page.closeBox();

  // What would have to write says why not, and asks nothing of the gate.
  const asked = page.requests.length;
  for (const entry of ['Disable', 'Edit…', 'Delete…']) {
    await page.choose('service 001', entry);
    await page.tab.locator('.note', { hasText: 'The token file is read-only here' }).waitFor();
    assert.equal(await page.dialog.count(), 0);
  }
  assert.equal(page.requests.length, asked);
});
