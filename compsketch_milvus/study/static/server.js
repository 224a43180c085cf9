// The server's endpoints. What fails for the moment is tried again until it is done: a rating must not get lost.

const FIRST_WAIT = 500, LONGEST_WAIT = 15000; // milliseconds

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function session() {
  return ask("GET", "/api/session");
}

export function join(invitation) {
  return ask("POST", "/api/login", { agree: true, invitation });
}

export function leave() {
  return ask("POST", "/api/logout", {});
}

export function work(failing) {
  return untilDone(() => ask("POST", "/api/work", {}), failing);
}

export function rate(task, scores, revision, failing) {
  return untilDone(() => ask("POST", "/api/ratings", { task, scores, revision }), failing);
}

async function ask(method, path, body) {
  const headers = { "X-Compsketch": "1", "Content-Type": "application/json" };
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), credentials: "same-origin" });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw Object.assign(new Refused(response.status, answer.error || `the server answered ${response.status}`), {
      wait: 1000 * Number(response.headers.get("Retry-After") || 0),
    });
  }
  return answer;
}

// Sending a rating again changes nothing on the server, so that it may always be sent again.
async function untilDone(send, failing) {
  for (let wait = FIRST_WAIT; ; wait = Math.min(2 * wait, LONGEST_WAIT)) {
    try {
      const answer = await send();
      failing(false);
      return answer;
    } catch (error) {
      const passing = !(error instanceof Refused) || error.status === 429 || error.status >= 500;
      if (!passing) throw error;
      failing(true);
      await new Promise((resolve) => setTimeout(resolve, Math.max(wait, error.wait || 0)));
    }
  }
}
