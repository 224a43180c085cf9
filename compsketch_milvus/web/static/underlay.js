// A photo under the canvas, to trace or to cut objects from. It stays in this browser; what is cut out of it is part of
// the sketch, and is sent with a search.

import { current, insert, notice, update, updateObject } from "./document.js";
import { contain, middle } from "./geometry.js";
import { h } from "./dom.js";
import { makeObject } from "./objects.js";
import { aspectOf, sizeOf, ASPECTS } from "./strokes.js";

const SIDE = 1600; // of the kept photo, the longer one
const CUT = 512; // of a cut-out
const QUALITY = 0.88;

/** Lay an image file under the canvas; an empty canvas takes on the photo's shape as nearly as there is one. */
export async function layUnder(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return notice(`“${file.name}” is no photo that this browser can read.`, "error");
  }
  const { width, height } = bitmap;
  const photo = part(bitmap, [0, 0, width, height], SIDE);
  bitmap.close();
  update((document) => {
    const size = document.objects.length ? document : sizeOf(nearestAspect(width / height));
    const box = contain(width, height, size.width, size.height);
    return { ...document, width: size.width, height: size.height, underlay: { photo, box, opacity: 0.5 } };
  });
}

function nearestAspect(ratio) {
  const away = (aspect) => Math.abs(Math.log(sizeOf(aspect).width / sizeOf(aspect).height / ratio));
  return ASPECTS.reduce((best, aspect) => (away(aspect) < away(best) ? aspect : best), aspectOf(current()) ?? ASPECTS[0]);
}

/** Cut a box of the canvas out of the photo underneath, as a new object. */
export async function cutOut(box) {
  const { photo, box: place } = current().underlay;
  const [x0, x1] = [Math.max(box[0], place[0]), Math.min(box[2], place[2])];
  const [y0, y1] = [Math.max(box[1], place[1]), Math.min(box[3], place[3])];
  if (x1 - x0 < 1 || y1 - y0 < 1) return notice("Drag over the photo to cut an object from it.");
  const image = await read(photo);
  const scale = image.naturalWidth / (place[2] - place[0]);
  const pixels = [(x0 - place[0]) * scale, (y0 - place[1]) * scale, (x1 - x0) * scale, (y1 - y0) * scale];
  insert(makeObject({ box: [x0, y0, x1, y1], photo: part(image, pixels, CUT) }));
}

/** Turn a cut-out: always from the pixels first cut, so that turning it often loses nothing. */
export async function bakeTurn(object, angle) {
  const source = unturned(object);
  const turned = source.angle + angle;
  const image = await read(source.photo);
  const [width, height] = source.size;
  const [wide, high] = extent(source.size, turned);
  const { canvas, context, scale } = sheet(wide, high, CUT);
  context.translate(canvas.width / 2, canvas.height / 2);
  context.rotate(turned);
  context.drawImage(image, (-width * scale) / 2, (-height * scale) / 2, width * scale, height * scale);
  const [cx, cy] = middle(object.box);
  const box = [cx - wide / 2, cy - high / 2, cx + wide / 2, cy + high / 2];
  updateObject(object.id, (now) => ({ ...now, photo: jpeg(canvas), box, source: { ...source, angle: turned } }));
}

/** What a cut-out was before it was turned, if it was and has kept its size since; else as it is. */
function unturned({ photo, box: [x0, y0, x1, y1], source }) {
  const size = [x1 - x0, y1 - y0];
  const isKept = source && extent(source.size, source.angle).every((side, i) => Math.abs(side - size[i]) < 0.5);
  return isKept ? source : { photo, size, angle: 0 };
}

/** Width and height of the upright box around a turned one. */
function extent([width, height], angle) {
  const [sin, cos] = [Math.abs(Math.sin(angle)), Math.abs(Math.cos(angle))];
  return [width * cos + height * sin, width * sin + height * cos];
}

async function read(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

/** Part of an image as a JPEG's data URL, its longer side at most `most` pixels. */
function part(image, [x, y, width, height], most) {
  const { canvas, context } = sheet(width, height, most);
  context.drawImage(image, x, y, width, height, 0, 0, canvas.width, canvas.height);
  return jpeg(canvas);
}

function sheet(width, height, most) {
  const scale = Math.min(1, most / Math.max(width, height));
  const side = (length) => Math.max(1, Math.round(length * scale));
  const canvas = h("canvas", { width: side(width), height: side(height) });
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // a JPEG has no transparency
  context.fillRect(0, 0, canvas.width, canvas.height);
  return { canvas, context, scale };
}

const jpeg = (canvas) => canvas.toDataURL("image/jpeg", QUALITY);
