// From the first sign-in to a token's end; what each step does is proved by calling a model.

import assert from 'node:assert/strict';
import { adminKey, scenario, statusOfCall } from './watched-browser.mjs';

await scenario('life-of-a-token', async (page) => {
  page.expectStatus(401);
  await page.signIn('fga_0000000000000000000000000000000000000000000000000');
  await page.see('The gate does not know this key.');
  await page.signIn('fg_0000000000000000000000000000000000000000000000000');
  await page.see('This is a token, not an administrator key');

  await page.enter();
  await page.see('No tokens yet');
  await page.see('Signed in as alice');

  // What is wrong is said beside its field, before anything is sent.
  await page.button('New Token').click();
  await page.dialog.getByRole('button', { name: 'Create' }).click();
  await page.see('Add at least one resource');
  await page.see('Choose at least one group.');
  const resources = page.dialog.getByRole('textbox', { name: 'Resources' });
  assert.ok(await resources.evaluate((field) => field === document.activeElement), 'the first wrong field has the focus');
  await resources.fill('a*b');
  await page.see('A * may stand only at the end.');
  await resources.fill('iris*');
  await page.see('Every model whose id starts with iris');
  await page.button('Cancel').click();
  assert.equal(await page.focused(), 'New Token');

  let secret = await page.createToken({ name: 'fraud team', resources: ['iris*', 'fraud-v2'], groups: ['model-evaluation'] });
  await page.see('this is the only time it is shown');
  await page.button('Copy').click();
  await page.button('Copied').waitFor();
  assert.equal(await page.tab.evaluate(() => navigator.clipboard.readText()), secret);
  assert.equal(await statusOfCall(secret), 200);
  assert.equal(await statusOfCall(secret, '/other/eval'), 403);
  await page.closeBox();
  assert.equal(await page.focused(), 'New Token');
  await page.row('fraud team').waitFor();
  assert.ok(!(await page.readableText()).includes(secret), 'the secret went with its box');
  assert.deepEqual(await heapTexts(page, secret), [], 'nor does a script still hold it');
  assert.notDeepEqual(await heapTexts(page, 'fraud team'), [], 'what a script does hold is found');

  // Neither the secret nor the key outlives the page.
  await page.tab.reload();
  await page.tab.getByLabel('Administrator key').waitFor();
  for (const gone of [secret, adminKey]) assert.ok(!(await page.readableText()).includes(gone), 'a reload forgets');
  assert.deepEqual(await page.tab.context().cookies(), []);
  await page.enter();
  assert.ok(!(await page.readableText()).includes(adminKey), 'the key is in no element');

  // Regenerate, at once.
  const first = secret;
  await page.choose('fraud team', 'Regenerate…');
  assert.equal(await statusOfCall(first), 200, 'nothing happens before somebody says so');
  await page.dialog.getByRole('button', { name: 'Regenerate' }).click();
  secret = await page.shownSecret();
  assert.notEqual(secret, first);
  assert.deepEqual([await statusOfCall(first), await statusOfCall(secret)], [401, 200]);
  await page.closeBox();
  assert.equal(await page.focused(), 'Actions for fraud team');

  // Regenerate, with time to change over.
  const second = secret;
  await page.choose('fraud team', 'Regenerate…');
  await page.dialog.getByRole('radio', { name: 'in 24 hours' }).check();
  await page.dialog.getByRole('button', { name: 'Regenerate' }).click();
  secret = await page.shownSecret();
  assert.deepEqual([await statusOfCall(second), await statusOfCall(secret)], [200, 200]);
  // Escape is heard once in vain: nobody copied it yet.
  await page.tab.keyboard.press('Escape');
  await page.see('You have not copied the token');
  await page.tab.keyboard.press('Escape');
  await page.dialogGone();
  await page.row('fraud team').getByText('Old secret works until').waitFor();

  // Explain.
  await page.choose('fraud team', 'Explain…');
  await page.dialog.getByRole('combobox', { name: 'Path' }).fill('/iris/eval');
  await page.button('Ask').click();
  await page.dialog.getByRole('heading', { name: 'Allowed' }).waitFor();
  await page.dialog.getByRole('combobox', { name: 'Path' }).fill('/other/eval');
  await page.button('Ask').click();
  await page.dialog.getByRole('heading', { name: 'Refused' }).waitFor();
  await page.dialog.getByText('resource_not_allowed').first().waitFor();
  await page.tab.keyboard.press('Escape');

  // Disable and enable.
  await page.choose('fraud team', 'Disable');
  await page.row('fraud team').getByText('Disabled').waitFor();
  assert.deepEqual([await statusOfCall(second), await statusOfCall(secret)], [401, 401]);
  await page.choose('fraud team', 'Enable');
  await page.row('fraud team').getByText('Active').waitFor();
  assert.equal(await statusOfCall(secret), 200);

  // Edit.
  await page.choose('fraud team', 'Edit…');
  await page.dialog.getByRole('textbox', { name: 'Name' }).fill('fraud team, live');
  await page.button('Remove iris*').click();
  await page.dialog.getByRole('radio', { name: '1 year' }).check();
  await page.button('Save').click();
  await page.dialogGone();
  await page.row('fraud team, live').waitFor();
  assert.deepEqual([await statusOfCall(secret), await statusOfCall(secret, '/fraud-v2/eval')], [403, 200]);
  await page.button('fraud team, live').click();
  await page.dialog.getByText('fraud-v2').waitFor();
  assert.equal(await page.dialog.getByText('iris*').count(), 0);
  await page.tab.keyboard.press('Escape');

  // Delete.
  await page.choose('fraud team, live', 'Delete…');
  assert.equal(await page.focused(), 'Cancel', 'Enter by mistake deletes nothing');
  await page.dialog.getByRole('button', { name: 'Delete' }).click();
  await page.see('No tokens yet');
  assert.equal(await statusOfCall(secret, '/fraud-v2/eval'), 401);
});

// Strings of the page's scripts that hold the text, after what nobody holds was collected.
async function heapTexts(page, text) {
  const debug = await page.tab.context().newCDPSession(page.tab);
  const pieces = [];
  debug.on('HeapProfiler.addHeapSnapshotChunk', ({ chunk }) => pieces.push(chunk));
  await debug.send('HeapProfiler.collectGarbage');
  await debug.send('HeapProfiler.takeHeapSnapshot', { reportProgress: false });
  await debug.detach();
  return JSON.parse(pieces.join('')).strings.filter((string) => string.includes(text));
}
