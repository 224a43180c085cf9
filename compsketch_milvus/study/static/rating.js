// The rating page: one photo at a time, a task sent when all of its photos are graded. Grades of a task that is not yet
// sent, and what can be undone, are kept in the browser, so that a reload loses nothing.

import * as server from "/server.js";

const UNDONE_AT_MOST = 20; // tasks that can be taken back
const part = (id) => document.getElementById(id);
const grades = [...document.querySelectorAll("#grades button")];

let tasks = []; // the one at hand and the next
let progress = { done: 0, left: 0 };
const NOTHING = { task: null, revision: 1, scores: [], past: [] };
let draft = NOTHING; // of the task at hand; past: tasks that were sent, the last one last
let name = ""; // of the draft in the browser's storage, another one for each study
let busy = true; // no photo to be seen yet, or a rating under way

function show(name) {
  for (const id of ["intro", "rating", "end"]) part(id).hidden = id !== name;
}

function keep() {
  try {
    localStorage.setItem(name, JSON.stringify(draft));
  } catch {
    // Without storage a reload begins the task at hand anew; what was sent is on the server.
  }
}

function kept() {
  try {
    return JSON.parse(localStorage.getItem(name)) || NOTHING;
  } catch {
    return NOTHING;
  }
}

function say(text, error = false) {
  part("status").textContent = text;
  part("status").classList.toggle("error", error);
}

function failing(yes) {
  say(yes ? "No answer from the server. Your grades are kept; trying again…" : "", yes);
}

// --- one photo ---

async function display() {
  const [task, next] = tasks;
  if (!task) return finish();
  if (draft.task?.id !== task.id) draft = { ...draft, task, revision: 1, scores: [] };
  keep();
  const place = draft.scores.length;
  part("count").textContent = `Set ${progress.done + 1 - takenBack()} of ${progress.done + progress.left}`;
  part("bar").max = progress.done + progress.left;
  part("bar").value = progress.done - takenBack() + place / task.photos.length;
  part("place").textContent = `Photo ${place + 1} of ${task.photos.length}`;
  part("where").textContent = `${part("count").textContent}, ${part("place").textContent}`; // for those who hear it
  part("undo").disabled = !place && !draft.past.length;
  for (const button of grades) button.classList.remove("given");
  show("rating");
  if (await load(task, place)) {
    free();
    for (const source of [...task.photos, ...(next ? [next.sketch, ...next.photos] : [])]) new Image().src = source;
  }
}

async function load(task, place) {
  const photo = part("photo");
  photo.classList.add("waiting");
  try {
    part("sketch").src = task.sketch;
    photo.src = task.photos[place];
    await Promise.all([part("sketch").decode(), photo.decode()]);
  } catch {
    if (tasks[0] !== task) return false;
    say("A picture did not arrive; trying again…", true);
    setTimeout(() => tasks[0] === task && display(), 2000);
    return false;
  }
  if (part("status").classList.contains("error")) say("");
  photo.alt = `The photo, ${place + 1} of ${task.photos.length}`;
  photo.classList.remove("waiting");
  return true;
}

// A task that was taken back is done already, as far as the server knows.
function takenBack() {
  return draft.revision > 1 ? 1 : 0;
}

function free() {
  busy = false;
  for (const button of grades) button.disabled = false;
}

function occupy() {
  busy = true;
  for (const button of grades) button.disabled = true;
}

async function grade(score) {
  if (busy) return;
  const [task] = tasks;
  occupy();
  grades[score - 1].classList.add("given");
  draft = { ...draft, scores: [...draft.scores, score] };
  keep();
  if (draft.scores.length === task.photos.length) await send(task);
  else await display();
}

async function send(task) {
  try {
    const { revision, scores } = draft;
    accept(await server.rate(task.id, scores, revision, failing));
    const past = [...draft.past.filter((one) => one.task.id !== task.id), { task, revision, scores }];
    draft = { ...NOTHING, past: past.slice(-UNDONE_AT_MOST) };
    await display();
  } catch (error) {
    draft = NOTHING;
    keep();
    await begin();
    say(error.message, true);
  }
}

async function undo() {
  if (busy || part("undo").disabled) return;
  occupy();
  if (!draft.scores.length) {
    const last = draft.past.at(-1);
    tasks = [last.task, ...tasks.filter((one) => one.id !== last.task.id)];
    draft = { task: last.task, revision: last.revision + 1, scores: last.scores, past: draft.past.slice(0, -1) };
  }
  draft = { ...draft, scores: draft.scores.slice(0, -1) };
  await display();
}

// --- coming and going ---

function accept(answer) {
  tasks = answer.tasks;
  progress = { done: answer.done, left: answer.left };
}

async function begin() {
  occupy();
  try {
    accept(await server.work(failing));
  } catch (error) {
    if (error.status !== 401) throw error;
    return show("intro");
  }
  draft = kept();
  if (takenBack()) tasks = [draft.task, ...tasks];
  await display();
}

function finish() {
  const some = progress.done > 0;
  part("end-title").textContent = some ? "Thank you" : "Nothing to grade";
  part("end-text").textContent = some
    ? `That was the last one. ${graded()} You can close this page.`
    : "Every photo has been given to enough people. Should somebody leave early, there may be some again later.";
  end("Look again");
}

function graded() {
  return `You have graded ${progress.done} ${progress.done === 1 ? "set" : "sets"} of photos.`;
}

async function stop() {
  await server.leave().catch(() => {}); // else the lease runs out
  part("end-title").textContent = "Until later";
  part("end-text").textContent = `${graded()} You can go on with this browser at any time; nothing is lost.`;
  end("Go on");
}

function end(again) {
  part("where").textContent = part("end-title").textContent;
  part("again").textContent = again;
  show("end");
  part("again").focus();
}

async function agree() {
  part("agree").disabled = true;
  try {
    await server.join(decodeURIComponent(location.hash.slice(1)));
    history.replaceState(null, "", location.pathname); // the invitation need not stay in sight
    await begin();
  } catch (error) {
    part("refused").textContent = error.status === 401
      ? "This link is not complete: open the whole link that you were sent."
      : error.message;
  }
  part("agree").disabled = false;
}

for (const button of grades) button.addEventListener("click", () => grade(Number(button.value)));
part("undo").addEventListener("click", undo);
part("stop").addEventListener("click", stop);
part("agree").addEventListener("click", agree);
part("again").addEventListener("click", begin);
document.addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || part("rating").hidden) return;
  if (/^[1-5]$/.test(event.key)) grade(Number(event.key));
  else if (event.key === "Backspace" || event.key === "u") undo();
  else return;
  event.preventDefault();
});

const { rater, contact, study } = await server.session();
name = `compsketch-study-${study}`;
if (contact) part("contact").textContent = `Questions: ${contact}.`;
if (rater) await begin();
else {
  show("intro");
  part("agree").focus({ preventScroll: true }); // the instructions come first
}
