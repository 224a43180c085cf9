// Strokes are rows of coordinates, [xs, ys] (a third row, the pen's pressure, may follow); boxes are [x0, y0, x1, y1];
// all in canvas pixels, x to the right and y down.

/** The box around all strokes, null where there are none. */
export function bounds(strokes) {
  let [x0, y0, x1, y1] = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [xs, ys] of strokes) {
    for (let i = 0; i < xs.length; i++) {
      if (xs[i] < x0) x0 = xs[i];
      if (xs[i] > x1) x1 = xs[i];
      if (ys[i] < y0) y0 = ys[i];
      if (ys[i] > y1) y1 = ys[i];
    }
  }
  return x0 <= x1 ? [x0, y0, x1, y1] : null;
}

/** The box between two corners, whichever they are. */
export const boxBetween = (ax, ay, bx, by) => [Math.min(ax, bx), Math.min(ay, by), Math.max(ax, bx), Math.max(ay, by)];

export const isInside = ([x0, y0, x1, y1], x, y, margin = 0) =>
  x >= x0 - margin && x <= x1 + margin && y >= y0 - margin && y <= y1 + margin;

export const overlaps = (a, b, margin = 0) =>
  a[0] <= b[2] + margin && b[0] <= a[2] + margin && a[1] <= b[3] + margin && b[1] <= a[3] + margin;

export const area = ([x0, y0, x1, y1]) => (x1 - x0) * (y1 - y0);

/** How far a point is from a segment. */
export function distanceToSegment(x, y, ax, ay, bx, by) {
  const [dx, dy] = [bx - ax, by - ay];
  const length = dx * dx + dy * dy;
  const t = length ? Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / length)) : 0;
  return Math.hypot(x - ax - t * dx, y - ay - t * dy);
}

const side = (ax, ay, bx, by, x, y) => (bx - ax) * (y - ay) - (by - ay) * (x - ax);

function segmentDistance([ax, ay, bx, by], [cx, cy, dx, dy]) {
  const cross =
    side(ax, ay, bx, by, cx, cy) * side(ax, ay, bx, by, dx, dy) < 0 &&
    side(cx, cy, dx, dy, ax, ay) * side(cx, cy, dx, dy, bx, by) < 0;
  if (cross) return 0;
  return Math.min(
    distanceToSegment(ax, ay, cx, cy, dx, dy),
    distanceToSegment(bx, by, cx, cy, dx, dy),
    distanceToSegment(cx, cy, ax, ay, bx, by),
    distanceToSegment(dx, dy, ax, ay, bx, by),
  );
}

/** Whether a stroke comes within `reach` of the segment [ax, ay, bx, by]. */
export function touches([xs, ys], segment, reach) {
  for (let i = 0; i < xs.length; i++) {
    const next = Math.min(i + 1, xs.length - 1);
    if (segmentDistance([xs[i], ys[i], xs[next], ys[next]], segment) <= reach) return true;
  }
  return false;
}

/** The four sides of a box as one closed stroke. */
export const outline = ([x0, y0, x1, y1]) => [
  [x0, x1, x1, x0, x0],
  [y0, y0, y1, y1, y0],
];

/** Leave out the points that lie within `tolerance` of the line without them (Ramer, Douglas and Peucker). */
export function simplify(stroke, tolerance) {
  const [xs, ys] = stroke;
  const count = xs.length;
  if (count < 3) return stroke;
  const keep = new Uint8Array(count);
  keep[0] = keep[count - 1] = 1;
  const open = [[0, count - 1]];
  while (open.length) {
    const [from, to] = open.pop();
    let [far, furthest] = [0, tolerance];
    for (let i = from + 1; i < to; i++) {
      const distance = distanceToSegment(xs[i], ys[i], xs[from], ys[from], xs[to], ys[to]);
      if (distance > furthest) [far, furthest] = [i, distance];
    }
    if (far) {
      keep[far] = 1;
      open.push([from, far], [far, to]);
    }
  }
  return stroke.map((row) => row.filter((_, i) => keep[i]));
}

// Maps of the plane: functions from x and y to [x, y].
export const moving = (dx, dy) => (x, y) => [x + dx, y + dy];

/** Stretch one box onto another; a side without length stays as it is and moves along. */
export function stretching(from, to) {
  const scale = (a0, a1, b0, b1) => (a1 - a0 > 1e-9 ? (b1 - b0) / (a1 - a0) : 1);
  const [sx, sy] = [scale(from[0], from[2], to[0], to[2]), scale(from[1], from[3], to[1], to[3])];
  return (x, y) => [to[0] + (x - from[0]) * sx, to[1] + (y - from[1]) * sy];
}

/** Turn about a point, `angle` in radians, clockwise as seen on the screen. */
export function turning(cx, cy, angle) {
  const [sin, cos] = [Math.sin(angle), Math.cos(angle)];
  return (x, y) => [cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos];
}

export function mapStroke([xs, ys, ...rest], map) {
  const points = xs.map((x, i) => map(x, ys[i]));
  return [points.map(([x]) => x), points.map(([, y]) => y), ...rest];
}

export function mapBox([x0, y0, x1, y1], map) {
  return bounds([mapStroke(outline([x0, y0, x1, y1]), map)]);
}

export const middle = ([x0, y0, x1, y1]) => [(x0 + x1) / 2, (y0 + y1) / 2];

/** Where a picture of this size lies, whole and centred, on a canvas. */
export function contain(width, height, canvasWidth, canvasHeight) {
  const scale = Math.min(canvasWidth / width, canvasHeight / height);
  const [x, y] = [(canvasWidth - width * scale) / 2, (canvasHeight - height * scale) / 2];
  return [x, y, x + width * scale, y + height * scale];
}
