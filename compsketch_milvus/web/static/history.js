// One history of immutable documents: every change pushes the old present, so undo and redo need no inverse of anything.

const DEPTH = 500;

export const start = (present) => ({ past: [], present, future: [], merge: null });

/**
 * Make `present` the newest state. Changes with one and the same `merge` key, one after the other (the frames of a
 * drag, the steps of a slider), are one step of undo.
 */
export function commit(history, present, merge = null) {
  if (present === history.present) return history;
  const goesOn = merge !== null && merge === history.merge;
  const past = goesOn ? history.past : [...history.past, history.present].slice(-DEPTH);
  return { past, present, future: [], merge };
}

export function undo({ past, present, future }) {
  if (!past.length) return { past, present, future, merge: null };
  return { past: past.slice(0, -1), present: past.at(-1), future: [present, ...future], merge: null };
}

export function redo({ past, present, future }) {
  if (!future.length) return { past, present, future, merge: null };
  return { past: [...past, present], present: future[0], future: future.slice(1), merge: null };
}
