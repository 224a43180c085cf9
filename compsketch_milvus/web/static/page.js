// The page: the sketch on one side, what it finds on the other.

import { startCanvas } from "./canvas.js";
import { startResults } from "./results.js";

const canvas = await startCanvas();
await startResults({ root: document.getElementById("results"), canvas });
