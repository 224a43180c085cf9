/** Who is asking: the session's facts, and the form where a login is needed. */

import { call } from "./api.js";
import { h } from "./dom.js";

/** What the server says about this session, and about a collection: its own choice without one. */
export function session(collection) {
  return call("api/session", { parameters: { collection } });
}

export function logout() {
  return call("api/logout", { body: {} });
}

/**
 * A form that asks for the token; it stays until one is taken.
 *
 * @param {() => void} entered - called once the server knows this browser.
 */
export function loginForm(entered) {
  const token = h("input", {
    type: "password",
    name: "token",
    required: true,
    autocomplete: "current-password",
    id: "token",
  });
  const problem = h("p.problem", { role: "alert" });
  const button = h("button.button.primary", { type: "submit" }, "Log in");
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    problem.textContent = "";
    try {
      await call("api/login", { body: { token: token.value } });
      entered();
    } catch (error) {
      problem.textContent = error.message;
      token.select();
    } finally {
      button.disabled = false;
    }
  };
  return h(
    "form.login",
    { onsubmit: submit },
    h("h3", {}, "This page asks for a token"),
    h("p", {}, "Whoever runs the server has it: what ", h("code", {}, "compsketch web --token-file"), " was given."),
    h("label.choice", { htmlFor: "token" }, h("span", {}, "Token"), token),
    problem,
    button,
  );
}
