// What others do while the page is open: change the token that is being edited, delete it, take the
// administrator's key away. And what the page does when an answer gets lost.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { callApi, scenario, setting } from './watched-browser.mjs';

const tokens = 'namespaces/default/tokens';

await scenario('meanwhile', async (page) => {
  const create = (name) => callApi('POST', tokens, { name, resources: ['iris*'], groups: ['model-evaluation'] });
  const { token } = await create('shared');
  const { token: other } = await create('another');
  await page.enter();

  // Another token changed: the file is a new one, and the edit is made to it all the same.
  page.expectStatus(412);
  await page.choose('shared', 'Edit…');
  const name = page.dialog.getByRole('textbox', { name: 'Name' });
  await name.fill('shared by two');
  await callApi('PATCH', `${tokens}/${other.id}`, { name: 'another one' });
  await page.button('Save').click();
  await page.dialogGone();
  await page.row('shared by two').waitFor();
  await page.row('another one').waitFor();

  // This token changed: somebody looks again.
  page.expectStatus(412);
  await page.choose('shared by two', 'Edit…');
  await name.fill('mine');
  await callApi('PATCH', `${tokens}/${token.id}`, { name: 'theirs', resources: ['fraud'] });
  await page.button('Save').click();
  await page.see('Somebody else changed this token meanwhile.');
  assert.equal(await name.inputValue(), 'theirs');
  await page.button('Remove fraud').waitFor();
  await name.fill('mine after all');
  await page.button('Save').click();
  await page.row('mine after all').waitFor();
  assert.deepEqual((await callApi('GET', `${tokens}/${token.id}`)).token.resources, ['fraud']);

  // The answer to Create is lost on its way: pressing it again makes no second token.
  await page.tab.route('**/tokens', async (route) => {
    await route.fetch();
    await route.abort();
  }, { times: 1 });
  await page.button('New Token').click();
  await page.dialog.getByRole('textbox', { name: 'Name' }).fill('only once');
  await page.dialog.getByRole('textbox', { name: 'Resources' }).fill('iris*');
  await page.dialog.getByRole('checkbox', { name: 'model-evaluation' }).check();
  await page.button('Create').click();
  await page.see('The gate does not answer.');
  page.forgiveFailedRequests();
  await page.button('Create').click();
  await page.shownSecret();
  await page.closeBox();
  assert.equal((await callApi('GET', `${tokens}?q=only+once`)).total, 1);

  // What the gate finds wrong stands beside its field.
  page.expectStatus(422);
  await page.button('New Token').click();
  await page.tab.route('**/tokens', async (route) => {
    const body = { ...route.request().postDataJSON(), resources: ['not//so'] };
    await route.continue({ postData: JSON.stringify(body) });
  }, { times: 1 });
  await page.dialog.getByRole('textbox', { name: 'Resources' }).fill('iris*');
  await page.dialog.getByRole('checkbox', { name: 'model-evaluation' }).check();
  await page.button('Create').click();
  await page.dialog.locator('.chip-box.invalid').waitFor();
  await page.button('Cancel').click();

  // Gone meanwhile.
  page.expectStatus(404);
  await callApi('DELETE', `${tokens}/${other.id}`);
  await page.choose('another one', 'Disable');
  await page.see('It is no longer there.');
  await page.row('another one').waitFor({ state: 'detached' });

  // The key is taken away while a dialog is open: back to the door, and nothing of the page stays.
  page.expectStatus(401);
  await page.choose('mine after all', 'Delete…');
  execFileSync(setting('FAREGATE'), ['admin-key', 'delete', '--name', 'alice'], { stdio: 'ignore' });
  await keyIsRefused();
  await page.dialog.getByRole('button', { name: 'Delete' }).click();
  await page.see('Your key is no longer accepted.');
  assert.equal(await page.dialog.count(), 0);
  assert.ok(!(await page.readableText()).includes('mine after all'));

  // Who goes on trying is told how long to wait.
  const wait = page.tab.getByText(/You can try again in \d+ s\./);
  for (let attempt = 0; attempt < 30 && !(await wait.isVisible()); attempt += 1) {
    const refused = page.tab.waitForResponse((response) => response.url().endsWith('/namespaces'));
    await page.signIn('fga_0000000000000000000000000000000000000000000000000');
    page.expectStatus((await refused).status());
    await page.tab.locator('input[aria-invalid="true"]').waitFor();
  }
  await page.see('Too many wrong keys came from your address.');
  await wait.waitFor();
});

// Until the gate has read the file again; the answer comes over another connection than the page's.
async function keyIsRefused() {
  for (;;) {
    const refused = await callApi('GET', 'namespaces').then(() => false, () => true);
    if (refused) return;
  }
}
