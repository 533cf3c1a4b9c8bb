// The admin API. The administrator key lives in this module's memory and nowhere else: not in
// storage, not in a cookie, not in an address; a reload of the page forgets it.

let administratorKey = null;
let whenRefused = () => {};

/** The gate answered, and said no. */
export class Refused extends Error {
  constructor(response, problem) {
    super(problem.detail || problem.title || `${response.status} ${response.statusText}`);
    this.status = response.status;
    this.problem = problem;
    this.reason = problem.reason;
    // Seconds, of a 429.
    this.retryAfter = Number(response.headers.get('retry-after')) || null;
  }

  /** What was wrong with which field, as `[field, words]`. */
  fieldErrors() {
    const errors = this.problem.errors?.length ? this.problem.errors : [this.problem];
    return errors
      .filter((error) => typeof error.field === 'string')
      .map((error) => [error.field.split(/[.[/]/)[0], error.detail || this.message]);
  }
}

/** No answer came. */
export class Unreachable extends Error {}

/** The key is no longer good; the page is back at its sign-in, and there is nothing left to say. */
export class SignedOut extends Error {}

/**
 * Takes the key if the gate accepts it: the namespaces it opens.
 *
 * @throws {Refused|Unreachable}
 */
export async function signIn(key) {
  const { namespaces } = await call(key, 'GET', 'namespaces');
  administratorKey = key;
  return namespaces;
}

/** Forgets the key. */
export function signOut() {
  administratorKey = null;
}

/** What to do when a key that was good is refused. */
export function onRefusedKey(action) {
  whenRefused = action;
}

/** Whether this can stand in a header at all, as every administrator key can. */
export function canBeKey(key) {
  return /^[\x21-\x7e]+$/.test(key);
}

export async function namespaces() {
  return (await request('GET', 'namespaces')).namespaces;
}

/** What can be asked of one namespace. */
export function namespaceApi(name) {
  const at = (...segments) => ['namespaces', name, ...segments].map(encodeURIComponent).join('/');
  return {
    tokens(query, signal) {
      const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value));
      return request('GET', `${at('tokens')}?${search}`, { signal });
    },
    token: (id) => request('GET', at('tokens', id)),
    create: (token, idempotencyKey) => request('POST', at('tokens'), { body: token, idempotencyKey }),
    change: (id, changes, generation) => request('PATCH', at('tokens', id), { body: changes, generation }),
    delete: (id) => request('DELETE', at('tokens', id)),
    regenerate: (id, gracePeriod, idempotencyKey) =>
      request('POST', at('tokens', id, 'regenerate'), { body: { grace_period: gracePeriod }, idempotencyKey }),
    disable: (id) => request('POST', at('tokens', id, 'disable')),
    enable: (id) => request('POST', at('tokens', id, 'enable')),
    explain: (question) => request('POST', at('explain'), { body: question }),
    routes: () => request('GET', at('routes')),
  };
}

/**
 * Something no other request of anybody has. Not `crypto.randomUUID`: browsers have it only where
 * the page came over TLS or from this machine.
 */
export function newIdempotencyKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

async function request(method, path, options) {
  if (administratorKey === null) throw new SignedOut();
  try {
    return await call(administratorKey, method, path, options);
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 401) throw error;
    whenRefused();
    throw new SignedOut();
  }
}

async function call(key, method, path, { body, generation, idempotencyKey, signal } = {}) {
  const headers = new Headers({ authorization: `Bearer ${key}`, accept: 'application/json' });
  if (body !== undefined) headers.set('content-type', 'application/json');
  if (generation) headers.set('if-match', `"${generation}"`);
  if (idempotencyKey) headers.set('idempotency-key', idempotencyKey);
  let response;
  let answer;
  try {
    response = await fetch(new URL(`api/v1/${path}`, document.baseURI), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
      referrerPolicy: 'no-referrer',
    });
    answer = await response.text();
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Unreachable();
  }
  const json = parsed(answer);
  if (!response.ok) throw new Refused(response, json ?? {});
  if (json === null && response.status !== 204) throw new Unreachable();
  return json;
}

// An answer that is no JSON comes from something between here and the gate.
function parsed(answer) {
  try {
    return JSON.parse(answer);
  } catch {
    return null;
  }
}
