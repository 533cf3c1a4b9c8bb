// Every main state of the page, judged by axe and for its width, and a picture of each.

import { callApi, scenario, setting } from './watched-browser.mjs';

const look = setting('LOOK');
const size = { light: [1200, 800], dark: [1200, 800], narrow: [320, 700] }[look];

const tokens = 'namespaces/fraud/tokens';
const inDays = (days) => new Date(Date.now() + days * 86_400_000).toISOString().replace(/\.\d+/, '');

await scenario(`appearances-${look}`, async (page) => {
  const state = async (name) => {
    await page.assertAccessible(name);
    await page.screenshot(name);
  };

  await state('sign-in');
  page.expectStatus(401);
  await page.signIn('fga_0000000000000000000000000000000000000000000000000');
  await page.see('The gate does not know this key.');
  await state('sign-in-refused');
  await page.enter();
  await page.see('No tokens yet');
  await state('empty');

  for (const token of [
    { name: 'fraud team, batch scoring', resources: ['iris*', 'fraud-v2'], groups: ['model-evaluation'], expires_in: '365d', labels: { team: 'fraud' } },
    { name: 'nightly evaluation', resources: ['meta-llama/Llama-3.1-8B', 'whisper', 'fraud-v2', 'fraud-v3', 'iris*'], groups: ['model-evaluation'], expires_in: '5d' },
    { name: 'deployment pipeline', resources: ['*'], groups: ['model-evaluation', 'model-management'], expires_in: '30d' },
    { resources: ['iris-v1'], groups: ['model-evaluation'] },
    { name: 'contractor', resources: ['iris*'], groups: ['model-evaluation'], expires_in: '90d' },
  ]) {
    const { token: made } = await callApi('POST', tokens, token);
    if (token.name === 'contractor') await callApi('POST', `${tokens}/${made.id}/disable`);
    if (token.name === 'fraud team, batch scoring') await callApi('POST', `${tokens}/${made.id}/regenerate`, { grace_period: '24h' });
  }
  const { token: past } = await callApi('POST', tokens, { name: 'last year’s notebook', resources: ['iris-v1'], groups: ['model-evaluation'] });
  await callApi('PATCH', `${tokens}/${past.id}`, { expires_at: inDays(-12) });
  await page.tab.reload();
  await page.enter();
  await page.row('contractor').waitFor();
  await state('list');
  await page.button('Actions for nightly evaluation').click();
  await state('menu');
  await page.tab.getByRole('menuitem', { name: 'Regenerate…' }).click();
  await state('regenerate');
  await page.button('Cancel').click();

  await page.button('New Token').click();
  await page.button('Create').click();
  await page.see('Choose at least one group.');
  await state('new-token-errors');
  await page.dialog.getByRole('textbox', { name: 'Name' }).fill('fraud team, live');
  await page.dialog.getByRole('textbox', { name: 'Resources' }).fill('iris* fraud-v2 ');
  await page.dialog.getByRole('checkbox', { name: 'model-evaluation' }).check();
  await state('new-token');
  await page.dialog.getByRole('radio', { name: 'Date' }).check();
  await state('new-token-date');
  await page.button('Create').click();
  await page.shownSecret();
  await state('green-box');
  await page.tab.keyboard.press('Escape');
  await page.see('You have not copied the token');
  await state('green-box-reminder');
  await page.closeBox();

  await page.button('fraud team, batch scoring').click();
  await state('details');
  await page.tab.keyboard.press('Escape');
  await page.choose('fraud team, batch scoring', 'Explain…');
  await page.dialog.getByRole('combobox', { name: 'Path' }).fill('/vision-v1/eval');
  await page.button('Ask').click();
  await page.dialog.getByRole('heading', { name: 'Refused' }).waitFor();
  await state('explain');
  await page.tab.keyboard.press('Escape');
  await page.choose('fraud team, batch scoring', 'Edit…');
  await page.button('Save').waitFor();
  await state('edit');
  await page.button('Cancel').click();
  await page.choose('contractor', 'Delete…');
  await state('delete');
  await page.button('Cancel').click();
  await page.choose('contractor', 'Enable');
  await page.tab.locator('.note').waitFor();
  await state('note');
  await page.tab.getByRole('searchbox').fill('nobody');
  await page.see('No token matches');
  await state('no-match');

  await page.tab.getByRole('tab', { name: 'vision' }).click();
  await page.row('service 001').waitFor();
  await state('read-only');
  page.expectStatus(409);
  await page.createToken({ name: 'for Git', resources: ['iris*'], groups: ['model-evaluation'] });
  await state('green-box-to-paste');
  await page.closeBox();
}, { colorScheme: look === 'dark' ? 'dark' : 'light', width: size[0], height: size[1] });
