/** The one way to the server: JSON out, JSON in, and every failure as a line that a person can read. */

const PATIENCE = 30_000; // ms until an answer is given up
const BUSY_TRIES = 3; // asks of a server that says "later" (429), each after the pause that it names
const PAGE = Math.random().toString(36).slice(2); // a newer search of this page takes the place of one that still waits
const GONE = new Set([502, 503, 504]); // a proxy speaks for a server that is not there

export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.name = "ApiError";
    this.status = status;
  }

  /** Nobody answered: the same question may be asked again once the server is back. */
  get unreachable() {
    return this.status === 0 || GONE.has(this.status);
  }

  get needsLogin() {
    return this.status === 401;
  }
}

/** An address under the page's own, which may lie below a proxy's prefix. */
export function address(path, parameters = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  return url.href;
}

/**
 * Ask the server.
 *
 * @param {string} path - such as "api/search".
 * @param {object} [options]
 * @param {object|FormData} [options.body] - what to POST; without it the request is a GET.
 * @param {object} [options.parameters] - of the address; empty ones are left out.
 * @param {AbortSignal} [options.signal] - gives the question up: the promise rejects with its AbortError.
 * @returns {Promise<any>} the JSON answer.
 * @throws {ApiError} with the server's own line where it gave one.
 */
export async function call(path, { body, parameters, signal } = {}) {
  const url = address(path, parameters);
  for (let tried = 1; ; tried++) {
    const response = await send(url, request(body, signal), signal);
    const text = await read(response, signal);
    if (response.ok) return text;
    if (response.status !== 429 || tried === BUSY_TRIES) throw new ApiError(line(text, response), response.status);
    await pause(1000 * Math.min(Number(response.headers.get("Retry-After")) || 1, 10), signal);
  }
}

/** Wait, or reject with the signal's AbortError. */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const given = () => (clearTimeout(timer), reject(signal.reason));
    const timer = setTimeout(() => (signal?.removeEventListener("abort", given), resolve()), milliseconds);
    if (signal?.aborted) given();
    signal?.addEventListener("abort", given, { once: true });
  });
}

function request(body, signal) {
  const headers = { Accept: "application/json" };
  const timeout = AbortSignal.timeout(PATIENCE);
  const init = { headers, signal: signal ? AbortSignal.any([signal, timeout]) : timeout, credentials: "same-origin" };
  if (body === undefined) return init;
  Object.assign(headers, { "X-Compsketch": "1", "X-Compsketch-Page": PAGE });
  if (body instanceof FormData) return { ...init, method: "POST", body };
  headers["Content-Type"] = "application/json";
  return { ...init, method: "POST", body: JSON.stringify(body) };
}

async function send(url, init, signal) {
  try {
    return await fetch(url, init);
  } catch (error) {
    throw lost(error, signal);
  }
}

async function read(response, signal) {
  const text = await response.text().catch((error) => {
    throw lost(error, signal);
  });
  try {
    return JSON.parse(text);
  } catch {
    if (response.ok) throw new ApiError("The server's answer is not JSON: is this address the sketch server's?", 500);
    return null;
  }
}

function lost(error, signal) {
  if (signal?.aborted) return error;
  if (error.name === "TimeoutError") return new ApiError(`No answer within ${PATIENCE / 1000} seconds.`);
  return new ApiError("The server cannot be reached.");
}

function line(answer, response) {
  const said = answer?.error ?? `The server answered ${response.status} ${response.statusText}`.trim() + ".";
  return answer?.reference ? `${said} (reference ${answer.reference})` : said; // the id under which its log says more
}
