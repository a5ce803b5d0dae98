"use strict";
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const canvas = byId("map"), pen = canvas.getContext("2d"), sprite = byId("sprite");
const count = data.planes[0].x.length, cells = data.sprite.cells, side = data.sprite.side;
const CELL = 40, REACH = 16, MARGIN = 28;  // pixels
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
let plane = data.planes.length - 1, coloring = 0, images = false;
let selected = -1, held = false, hidden = new Set(), found = new Set();
let view = { x: 0, y: 0, zoom: 1 }, at = { x: data.planes[plane].x, y: data.planes[plane].y };
let tiles = new Map(), width = 0, height = 0, pending = false, moving = 0;

// The points in an order of chance, the same each time, so that no class covers the others.
const order = Array.from({ length: count }, (_, i) => i);
for (let i = count - 1, state = 1; i > 0; i--) {
  state = (state * 48271) % 2147483647;
  const j = state % (i + 1);
  [order[i], order[j]] = [order[j], order[i]];
}

const isScale = () => "places" in data.colorings[coloring];
const groupOf = (i) => (isScale() ? Math.min(data.colorings[coloring].places[i], 0) : data.colorings[coloring].codes[i]);
const isShown = (i) => !hidden.has(groupOf(i));
const textOf = (column, i) => ("texts" in column ? column.texts[i] : column.names[column.codes[i]]);

function between(stops, place) {
  const position = place * (stops.length - 1), low = Math.min(Math.floor(position), stops.length - 2);
  const parts = [1, 3, 5].map((start) => {
    const [a, b] = [stops[low], stops[low + 1]].map((stop) => parseInt(stop.slice(start, start + 2), 16));
    return Math.round(a + (b - a) * (position - low));
  });
  return `rgb(${parts.join(",")})`;
}

function colorOf(i) {
  const how = data.colorings[coloring];
  if (isScale()) return how.places[i] < 0 ? data.none.color : between(how.stops, how.places[i]);
  return how.codes[i] < 0 ? data.none.color : how.colors[how.codes[i]];
}

const scaled = (share, length) => MARGIN + share * (length - 2 * MARGIN);
const left = (i) => (scaled(at.x[i], width) - view.x) * view.zoom;
const top_ = (i) => (scaled(1 - at.y[i], height) - view.y) * view.zoom;

function redraw() {
  if (!pending) requestAnimationFrame(draw);
  pending = true;
}

function draw() {
  pending = false;
  pen.clearRect(0, 0, width, height);
  const radius = Math.max(1.6, Math.min(4.5, 130 / Math.sqrt(count))) * Math.min(2, Math.sqrt(view.zoom));
  for (const known of [false, true])
    for (const i of order)
      if (isShown(i) && groupOf(i) >= 0 === known) drawPoint(i, radius);
  pen.globalAlpha = 1;
  tiles = new Map();
  if (images) drawImages();
  if (selected >= 0 && isShown(selected)) ring(selected, radius + 4, "#1d2129");
}

function drawPoint(i, radius) {
  const x = left(i), y = top_(i);
  if (x < -radius || y < -radius || x > width + radius || y > height + radius) return;
  const lit = found.has(i);
  pen.globalAlpha = found.size && !lit ? 0.12 : images ? 0.3 : 0.85;
  pen.fillStyle = colorOf(i);
  pen.beginPath();
  pen.arc(x, y, lit ? radius + 1 : radius, 0, 7);
  pen.fill();
  if (lit) ring(i, radius + 3, "#1d2129", 1);
}

function ring(i, radius, color, thick = 2.5) {
  pen.globalAlpha = 1;
  pen.lineWidth = thick;
  pen.strokeStyle = color;
  pen.beginPath();
  pen.arc(left(i), top_(i), radius, 0, 7);
  pen.stroke();
}

// In each cell of a grid the image that is nearest to its center, so that none covers another.
function drawImages() {
  for (let i = 0; i < count; i++) {
    const x = left(i), y = top_(i);
    if (cells[i] < 0 || !isShown(i) || x < 0 || y < 0 || x > width || y > height) continue;
    if (found.size && !found.has(i)) continue;
    const { key, x: x0, y: y0, across, down } = cellAt(x, y);
    const distance = (x - x0 - across / 2) ** 2 + (y - y0 - down / 2) ** 2;
    if (!tiles.has(key) || distance < tiles.get(key).distance) tiles.set(key, { i, x0, y0, across, down, distance });
  }
  for (const { i, x0, y0, across, down } of tiles.values()) {
    pen.fillStyle = i === selected ? "#1d2129" : colorOf(i);
    pen.fillRect(x0 + 1, y0 + 1, across - 2, down - 2);
    pen.drawImage(sprite, ...placeOf(i), side, side, x0 + 3.5, y0 + 3.5, across - 7, down - 7);
  }
}

// The cell of the grid at a place; a whole number of cells fills the map.
function cellAt(x, y) {
  const across = width / Math.round(width / CELL), down = height / Math.round(height / CELL);
  const column = Math.floor(x / across), row = Math.floor(y / down);
  return { key: row * 1000 + column, x: column * across, y: row * down, across, down };
}

const placeOf = (i) => [(cells[i] % data.sprite.columns) * side, Math.floor(cells[i] / data.sprite.columns) * side];

function pictureOf(i) {
  const small = document.createElement("canvas");
  small.width = small.height = side;
  small.getContext("2d").drawImage(sprite, ...placeOf(i), side, side, 0, 0, side, side);
  return small.toDataURL();
}

function select(i) {
  if (i === selected) return;
  selected = i;
  const has = i >= 0 && cells[i] >= 0;
  byId("hint").hidden = i >= 0;
  byId("shown").hidden = !has;
  byId("absent").hidden = i < 0 || has;
  if (has) {
    byId("shown").src = pictureOf(i);
    byId("shown").alt = `Image of ${textOf(data.columns[0], i)}`;
  }
  const rows = i < 0 ? [] : data.columns.map((column) => [column.name, textOf(column, i) || data.none.name]);
  byId("details").replaceChildren(...rows.flatMap(([name, text]) => [made("dt", name), made("dd", text)]));
  redraw();
}

function made(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

function nearest(x, y) {
  const tile = tiles.get(cellAt(x, y).key);
  if (tile) return tile.i;
  let best = -1, least = REACH ** 2;
  for (let i = 0; i < count; i++) {
    const distance = (left(i) - x) ** 2 + (top_(i) - y) ** 2;
    if (distance < least && isShown(i)) [best, least] = [i, distance];
  }
  return best;
}

// The next point in a direction: near, and preferably straight ahead.
function next(dx, dy) {
  const x = selected < 0 ? width / 2 : left(selected), y = selected < 0 ? height / 2 : top_(selected);
  let best = -1, least = Infinity;
  for (let i = 0; i < count; i++) {
    if (i === selected || !isShown(i)) continue;
    const across = left(i) - x, down = top_(i) - y;
    const ahead = across * dx + down * dy, aside = Math.abs(across * dy) + Math.abs(down * dx);
    const cost = selected < 0 ? Math.hypot(across, down) : ahead + 2 * aside;
    if ((selected < 0 || (ahead > 0 && aside <= ahead)) && cost < least) [best, least] = [i, cost];
  }
  if (best >= 0) {
    select(best);
    held = true;
    bringIn(best);
  }
}

function bringIn(i) {
  const x = left(i), y = top_(i);
  if (x < 0 || x > width) view.x += (x - width / 2) / view.zoom;
  if (y < 0 || y > height) view.y += (y - height / 2) / view.zoom;
  redraw();
}

function zoomAt(x, y, factor) {
  const zoom = Math.max(1, Math.min(60, view.zoom * factor));
  view.x += x / view.zoom - x / zoom;
  view.y += y / view.zoom - y / zoom;
  view.zoom = zoom;
  if (zoom === 1) view.x = view.y = 0;
  redraw();
}

function wholeMap() {
  view = { x: 0, y: 0, zoom: 1 };
  redraw();
}

function showPlane(index) {
  const before = at, target = data.planes[index], start = performance.now(), turn = ++moving;
  plane = index;
  const [x, y] = target.axes;
  byId("axes").replaceChildren(made("span", `→ ${x}`), made("span", `↑ ${y}`));
  view = { x: 0, y: 0, zoom: 1 };
  const step = (now) => {
    if (turn !== moving) return;
    const part = calm || before.x === target.x ? 1 : Math.max(0, Math.min(1, (now - start) / 500));
    const eased = part * part * (3 - 2 * part);
    const mixed = (name) => (part === 1 ? target[name] : target[name].map((value, i) => before[name][i] + (value - before[name][i]) * eased));
    at = { x: mixed("x"), y: mixed("y") };
    draw();
    if (part < 1) requestAnimationFrame(step);
  };
  step(start);
}

function showColoring(index) {
  coloring = index;
  hidden = new Set();
  const how = data.colorings[coloring];
  byId("of-colors").textContent = how.name;
  byId("scale").hidden = !isScale();
  if (isScale()) {
    byId("scale").firstElementChild.style.background = `linear-gradient(to right, ${how.stops.join(",")})`;
    const [low, high] = byId("scale").querySelectorAll("span");
    low.textContent = how.low;
    high.textContent = how.high + (how.logarithmic ? " (logarithmic)" : "");
  }
  const counts = new Map();
  for (let i = 0; i < count; i++) counts.set(groupOf(i), (counts.get(groupOf(i)) || 0) + 1);
  const groups = isScale() ? [] : how.names.map((name, code) => [code, name, how.colors[code]]);
  if (isScale() && counts.has(-1)) groups.push([0, "with a value", how.stops[Math.floor(how.stops.length / 2)]]);
  if (counts.has(-1)) groups.push([-1, data.none.name, data.none.color]);
  byId("legend").replaceChildren(...groups.map(([code, name, color]) => entry(code, name, color, counts.get(code) || 0)));
  redraw();
}

function entry(code, name, color, number) {
  const item = document.createElement("li"), button = document.createElement("button"), dot = document.createElement("i");
  dot.style.background = color;
  button.type = "button";
  button.setAttribute("aria-pressed", "true");
  button.append(dot, made("span", name), made("span", number.toLocaleString("en")));
  button.addEventListener("click", () => {
    if (!hidden.delete(code)) hidden.add(code);
    button.setAttribute("aria-pressed", String(!hidden.has(code)));
    if (selected >= 0 && !isShown(selected)) letGo();
    redraw();
  });
  item.append(button);
  return item;
}

function letGo() {
  held = false;
  select(-1);
}

function find() {
  const text = byId("find").value.trim().toLowerCase(), names = data.columns.filter((column) => column.searched);
  found = new Set();
  for (let i = 0; text && i < count; i++)
    if (names.some((column) => textOf(column, i).toLowerCase().includes(text))) found.add(i);
  byId("found").textContent = text ? `${found.size.toLocaleString("en")} of ${count.toLocaleString("en")}` : "";
  redraw();
}

function nextFound() {
  const shown = [...found].filter(isShown);
  if (!shown.length) return;
  select(shown.find((i) => i > selected) ?? shown[0]);
  held = true;
  bringIn(selected);
}

function fit() {
  const ratio = devicePixelRatio || 1;
  [width, height] = [canvas.clientWidth, canvas.clientHeight];
  [canvas.width, canvas.height] = [width * ratio, height * ratio];
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  redraw();
}

let drag = null;
canvas.addEventListener("pointerdown", (event) => {
  drag = { x: event.offsetX, y: event.offsetY, moved: false };
  if (event.pointerType === "mouse") canvas.setPointerCapture(event.pointerId);
});
canvas.addEventListener("pointermove", (event) => {
  const { offsetX: x, offsetY: y } = event;
  if (drag && event.pointerType === "mouse") {
    drag.moved = drag.moved || Math.hypot(x - drag.x, y - drag.y) > 4;
    if (drag.moved) {
      view.x -= event.movementX / view.zoom;
      view.y -= event.movementY / view.zoom;
      return redraw();
    }
  }
  if (!held) select(nearest(x, y));
});
canvas.addEventListener("pointerup", (event) => {
  if (drag && !drag.moved) {
    const point = nearest(event.offsetX, event.offsetY);
    held = point >= 0;
    select(point);
  }
  drag = null;
});
canvas.addEventListener("pointerleave", () => { if (!held) select(-1); });
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoomAt(event.offsetX, event.offsetY, Math.exp(-event.deltaY / 400));
}, { passive: false });
canvas.addEventListener("keydown", (event) => {
  const middle = selected < 0 ? [width / 2, height / 2] : [left(selected), top_(selected)];
  const actions = {
    ArrowLeft: () => next(-1, 0), ArrowRight: () => next(1, 0), ArrowUp: () => next(0, -1), ArrowDown: () => next(0, 1),
    "+": () => zoomAt(...middle, 1.4), "=": () => zoomAt(...middle, 1.4), "-": () => zoomAt(...middle, 1 / 1.4),
    Home: wholeMap, Escape: letGo,
  };
  if (!actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  actions[event.key]();
});
for (const input of document.querySelectorAll("input[name=plane]"))
  input.addEventListener("change", () => showPlane(Number(input.value)));
for (const input of document.querySelectorAll("input[name=draw]"))
  input.addEventListener("change", () => { images = input.value === "images"; redraw(); });
byId("coloring")?.addEventListener("change", (event) => showColoring(Number(event.target.value)));
byId("find").addEventListener("input", find);
byId("find").addEventListener("keydown", (event) => { if (event.key === "Enter") nextFound(); });
byId("reset").addEventListener("click", wholeMap);
addEventListener("resize", fit);
showPlane(plane);
showColoring(coloring);
fit();
sprite?.decode().then(redraw, () => {});
