"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const bytes = Uint8Array.from(atob(data.points), (c) => c.charCodeAt(0));
const points = new Float32Array(bytes.buffer);
const count = points.length / 2;
const canvas = document.getElementById("map"), pen = canvas.getContext("2d"), tip = document.getElementById("tip");
const hidden = new Set();
let low = [Infinity, Infinity], high = [-Infinity, -Infinity];
for (let i = 0; i < points.length; i++) {
  low[i % 2] = Math.min(low[i % 2], points[i]);
  high[i % 2] = Math.max(high[i % 2], points[i]);
}
// The place of the map's middle in the data, and pixels per unit.
let middle = [0, 1].map((axis) => (low[axis] + high[axis]) / 2), scale = 1, chosen = -1, waiting = false;

function fit() {
  const box = canvas.getBoundingClientRect();
  const spans = [0, 1].map((axis) => Math.max(high[axis] - low[axis], 1e-9));
  scale = 0.94 * Math.min(box.width / spans[0], box.height / spans[1]);
}

function place(i) {
  const box = canvas.getBoundingClientRect();
  return [(points[2 * i] - middle[0]) * scale + box.width / 2, (middle[1] - points[2 * i + 1]) * scale + box.height / 2];
}

function symbol(context, x, y, size, shape) {
  context.beginPath();
  if (shape < 2) context.arc(x, y, size, 0, 7);
  else if (shape === 2) context.rect(x - size, y - size, 2 * size, 2 * size);
  else { context.moveTo(x, y - size); context.lineTo(x - size, y + size); context.lineTo(x + size, y + size); context.closePath(); }
  if (shape === 1) context.stroke(); else context.fill();
}

function draw() {
  waiting = false;
  const box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  canvas.width = box.width * ratio;
  canvas.height = box.height * ratio;
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.globalAlpha = 0.8;
  const size = count > 5000 ? 2 : 3.5;
  for (let i = 0; i < count; i++) {
    const label = data.labels[i];
    if (hidden.has(label)) continue;
    const kind = data.classes[label] || { color: data.other, shape: 0 };
    pen.fillStyle = pen.strokeStyle = kind.color;
    const [x, y] = place(i);
    symbol(pen, x, y, size, kind.shape);
  }
  if (chosen >= 0) {
    pen.globalAlpha = 1;
    pen.strokeStyle = getComputedStyle(document.body).color;
    pen.lineWidth = 2;
    pen.beginPath();
    pen.arc(...place(chosen), size + 4, 0, 7);
    pen.stroke();
    pen.lineWidth = 1;
  }
}

function redraw() {
  if (!waiting) { waiting = true; requestAnimationFrame(draw); }
}

function show(x, y) {
  let best = -1, least = 20 * 20;
  for (let i = 0; i < count; i++) {
    if (hidden.has(data.labels[i])) continue;
    const [px, py] = place(i), distance = (px - x) ** 2 + (py - y) ** 2;
    if (distance < least) { least = distance; best = i; }
  }
  if (best === chosen) return;
  chosen = best;
  tip.hidden = best < 0;
  tip.replaceChildren();
  if (best >= 0) {
    const url = best % data.step === 0 ? data.images[best / data.step] : null;
    if (url) { const image = new Image(); image.src = url; tip.append(image); }
    const text = document.createElement("span"), kind = data.classes[data.labels[best]];
    text.textContent = data.names[best] + (kind ? ": " + kind.name : "");
    tip.append(text);
  }
  redraw();
}

function zoom(x, y, factor) {
  const box = canvas.getBoundingClientRect(), away = [x - box.width / 2, box.height / 2 - y];
  middle = middle.map((value, axis) => value + (away[axis] / scale) * (1 - 1 / factor));
  scale *= factor;
  redraw();
}

const fingers = new Map();
const spot = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
canvas.addEventListener("pointerdown", (event) => { fingers.set(event.pointerId, spot(event)); canvas.setPointerCapture(event.pointerId); show(...spot(event)); });
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => fingers.delete(event.pointerId));
canvas.addEventListener("pointermove", (event) => {
  const now = spot(event), before = fingers.get(event.pointerId);
  if (!before) return show(...now);
  if (fingers.size === 2) {
    const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
    const length = (a) => Math.hypot(a[0] - other[0], a[1] - other[1]);
    zoom((now[0] + other[0]) / 2, (now[1] + other[1]) / 2, length(now) / Math.max(length(before), 1));
  } else {
    middle = [middle[0] - (now[0] - before[0]) / scale, middle[1] + (now[1] - before[1]) / scale];
    redraw();
  }
  fingers.set(event.pointerId, now);
});
canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(...spot(event), Math.exp(-event.deltaY / 400)); }, { passive: false });
addEventListener("resize", redraw);

data.classes.forEach((kind, label) => {
  const button = document.createElement("button"), dot = document.createElement("canvas");
  button.setAttribute("aria-pressed", "true");
  dot.width = dot.height = 12;
  const context = dot.getContext("2d");
  context.fillStyle = context.strokeStyle = kind.color;
  symbol(context, 6, 6, 4.5, kind.shape);
  button.append(dot, kind.name);
  button.addEventListener("click", () => {
    if (!hidden.delete(label)) hidden.add(label);
    button.setAttribute("aria-pressed", String(!hidden.has(label)));
    redraw();
  });
  document.getElementById("legend").append(button);
});
fit();
draw();
