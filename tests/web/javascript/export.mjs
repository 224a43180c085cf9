// Writes a sketch that comes as stroke JSON on standard input as the page does: export.mjs json|svg|png.

import { toPng } from "../../../compsketch_milvus/web/static/png.js";
import { fromSketch, toSketch } from "../../../compsketch_milvus/web/static/strokes.js";
import { toSvg } from "../../../compsketch_milvus/web/static/svg.js";

const parts = [];
for await (const part of process.stdin) parts.push(part);
const document = fromSketch(JSON.parse(Buffer.concat(parts).toString()));
const writers = { json: (it) => JSON.stringify(toSketch(it)), svg: toSvg, png: toPng };
process.stdout.write(await writers[process.argv[2]](document));
