// Chromium on the token page, watched: whatever it complains about, and every request that leaves the
// gate, fails the scenario.
//
// The Rust test that starts a scenario says in the environment where things are:
//   E2E_BROWSER_ENVIRONMENT  the folder with the npm packages
//   ADMIN_URL, DATA_URL      the gate's listeners
//   ADMIN_KEY                opens the admin API
//   SCREENSHOTS              a folder for pictures

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

/** A variable that the test has to set. */
export function setting(name) {
  const value = process.env[name];
  assert.ok(value, `${name} is not set: tests/e2e/token_page.rs runs these scenarios`);
  return value;
}

const installed = createRequire(join(setting('E2E_BROWSER_ENVIRONMENT'), 'package.json'));
const { chromium } = installed('playwright-core');
const axeSource = readFileSync(installed.resolve('axe-core/axe.min.js'), 'utf8');

export const adminUrl = setting('ADMIN_URL');
export const dataUrl = setting('DATA_URL');
export const adminKey = setting('ADMIN_KEY');

// Nothing here takes so long; what hangs ends with a message that says what was awaited.
const PATIENCE_MS = 20_000;

// Chromium's sandbox needs rights that containers do not give, and the pages are our own.
const FLAGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

// What the browser writes of an answer that is a refusal.
const REFUSED = /Failed to load resource: the server responded with a status of (\d+)/;

/**
 * Runs a scenario on the page, which has just been opened. `act` is given a {@link WatchedPage}.
 * Ends the process with 1 and a message when it fails, or the browser had something to complain about.
 */
export async function scenario(name, act, { colorScheme = 'light', width = 1200, height = 800 } = {}) {
  const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: FLAGS });
  try {
    const context = await browser.newContext({
      colorScheme, viewport: { width, height }, locale: 'en-GB', reducedMotion: 'reduce', acceptDownloads: false,
    });
    context.setDefaultTimeout(PATIENCE_MS);
    await context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: adminUrl });
    const page = await WatchedPage.open(context, name);
    try {
      await act(page);
      await page.assertQuiet();
    } catch (error) {
      await page.screenshot('failed').catch(() => {});
      throw new Error(`${name}: ${error.message}\n${page.complaints.join('\n')}`, { cause: error });
    }
  } finally {
    await browser.close();
  }
  console.log(`${name}: passed`);
}

class WatchedPage {
  static async open(context, name) {
    const watched = new WatchedPage();
    Object.assign(watched, { name, complaints: [], expected: new Map(), requests: [], tab: await context.newPage() });
    await watched.watch(context);
    await watched.tab.goto(adminUrl);
    return watched;
  }

  async watch(context) {
    const { tab } = this;
    await tab.exposeBinding('reportViolation', (_, what) => this.complaints.push(`content security policy: ${what}`));
    await tab.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) =>
        window.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`));
    });
    tab.on('console', (message) => {
      if (['error', 'warning', 'assert'].includes(message.type())) {
        this.complaints.push(`console ${message.type()}: ${message.text()} (${message.location().url})`);
      }
    });
    tab.on('pageerror', (error) => this.complaints.push(`uncaught: ${error.stack}`));
    tab.on('dialog', (dialog) => {
      this.complaints.push(`a script opened a box: ${dialog.message()}`);
      dialog.dismiss();
    });
    tab.on('popup', (popup) => this.complaints.push(`a window was opened: ${popup.url()}`));
    context.on('request', (request) => {
      this.requests.push(request.url());
      if (!request.url().startsWith(`${adminUrl}/`)) this.complaints.push(`a request elsewhere: ${request.url()}`);
    });
  }

  /** The browser writes of so many answers with this status, and that is as it should be. */
  expectStatus(status, times = 1) {
    this.expected.set(status, (this.expected.get(status) ?? 0) + times);
  }

  /** What the browser wrote of requests that the scenario itself cut off. */
  forgiveFailedRequests() {
    this.complaints = this.complaints.filter((complaint) => !complaint.includes('net::ERR_FAILED'));
  }

  /** Fails when the browser complained of anything, or was refused more or less often than expected. */
  async assertQuiet() {
    // What it has to say of answers comes before this one's.
    await this.tab.evaluate(() => {});
    const expected = new Map(this.expected);
    const unexpected = this.complaints.filter((complaint) => {
      const status = Number(REFUSED.exec(complaint)?.[1]);
      const left = expected.get(status) ?? 0;
      if (left > 0) expected.set(status, left - 1);
      return left === 0;
    });
    assert.deepEqual(unexpected, [], 'the browser has nothing to complain about');
    for (const [status, left] of expected) assert.equal(left, 0, `${left} more answers ${status} were expected`);
  }

  button(name, options = {}) {
    return this.tab.getByRole('button', { name, exact: true, ...options });
  }

  field(name) {
    return this.tab.getByRole('textbox', { name });
  }

  get dialog() {
    return this.tab.getByRole('dialog');
  }

  /** Waits until a dialog has closed and the focus was given back; by role, it is gone when it begins to. */
  async dialogGone() {
    await this.tab.locator('dialog').waitFor({ state: 'detached' });
  }

  async see(words) {
    await this.tab.getByText(words).first().waitFor();
  }

  async signIn(key = adminKey) {
    await this.tab.getByLabel('Administrator key').fill(key);
    await this.button('Sign in').click();
  }

  /** Signed in, with the first list there. */
  async enter() {
    await this.signIn();
    await this.tab.getByRole('heading', { name: 'Tokens', exact: true }).waitFor();
    await this.loaded();
  }

  /** Waits until the list is what was asked for last. */
  async loaded() {
    await this.tab.locator('.view:not(.loading)').waitFor();
  }

  row(name) {
    return this.tab.getByRole('row').filter({ has: this.tab.getByText(name, { exact: true }) });
  }

  /** Opens the menu of a token's row and takes an entry, also one that says it cannot be taken. */
  async choose(tokenName, entry) {
    await this.button(`Actions for ${tokenName}`).click();
    await this.tab.getByRole('menuitem', { name: entry }).click({ force: true });
  }

  /** Fills New Token and creates it: its secret. The green box stays open. */
  async createToken({ name, resources, groups }) {
    await this.button('New Token').click();
    if (name) await this.dialog.getByRole('textbox', { name: 'Name' }).fill(name);
    await this.dialog.getByRole('textbox', { name: 'Resources' }).fill(`${resources.join(' ')} `);
    for (const group of groups) await this.dialog.getByRole('checkbox', { name: group }).check();
    await this.dialog.getByRole('button', { name: 'Create' }).click();
    return this.shownSecret();
  }

  /** What the green box shows. */
  async shownSecret() {
    const field = this.dialog.getByRole('textbox', { name: 'Token', exact: true });
    await field.waitFor();
    const secret = await field.inputValue();
    assert.match(secret, /^fg_[0-9A-Za-z]{49}$/);
    return secret;
  }

  async closeBox() {
    await this.dialog.getByRole('button', { name: 'Done' }).click();
    await this.dialogGone();
    await this.loaded();
  }

  /** What has the keyboard's focus, by its name. */
  focused() {
    return this.tab.evaluate(() => {
      const element = document.activeElement;
      const words = element.getAttribute('aria-label') ?? element.labels?.[0]?.textContent ?? element.textContent;
      return words.trim();
    });
  }

  /** All that a script could read of the page: its elements, the values of its fields, and what it stored. */
  readableText() {
    return this.tab.evaluate(() => JSON.stringify([
      document.documentElement.outerHTML,
      [...document.querySelectorAll('input, textarea, select')].map((field) => field.value),
      { ...localStorage }, { ...sessionStorage }, document.cookie, location.href, history.state, window.name,
    ]));
  }

  async screenshot(name) {
    await this.tab.screenshot({ path: join(setting('SCREENSHOTS'), `${this.name}-${name}.png`) });
  }

  /** Fails if axe finds something serious or critical, or the page is wider than the window. */
  async assertAccessible(state) {
    // Through the debugger: the page's own policy lets no other script in.
    const debug = await this.tab.context().newCDPSession(this.tab);
    await debug.send('Runtime.evaluate', { expression: axeSource });
    await debug.detach();
    const { violations } = await this.tab.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    const found = violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('\n')}`);
    assert.deepEqual(found, [], `${state}: what axe finds`);
    const { scrollWidth, clientWidth } = await this.tab.evaluate(() => {
      const { scrollWidth, clientWidth } = document.documentElement;
      return { scrollWidth, clientWidth };
    });
    assert.ok(scrollWidth <= clientWidth, `${state}: ${scrollWidth} pixels wide in a window of ${clientWidth}`);
  }
}

/** The status of a model's answer to this secret, on the gate's data listener. */
export async function statusOfCall(secret, path = '/iris/eval') {
  const response = await fetch(`${dataUrl}${path}`, {
    method: 'POST', headers: { authorization: `Bearer ${secret}`, 'content-type': 'application/json' }, body: '{}',
  });
  await response.arrayBuffer();
  return response.status;
}

/** Calls the admin API past the page; the answer as JSON. */
export async function callApi(method, path, body) {
  const response = await fetch(`${adminUrl}/api/v1/${path}`, {
    method,
    headers: { authorization: `Bearer ${adminKey}`, 'content-type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  const answer = await response.text();
  assert.ok(response.ok, `${method} ${path}: ${response.status} ${answer}`);
  return answer && JSON.parse(answer);
}
