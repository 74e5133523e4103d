// Editor of a lesion's outline: a closed polygon over the photograph. It makes no requests.

const REACH = { mouse: 10, pen: 14, touch: 24 }; // screen pixels between a press and the point or line that it means
const STEP = 2; // screen pixels between two points of a drawn line
const TOLERANCE = 0.005; // of a drawn line, as a fraction of its longer side
const MIN_SIDE = 8; // screen pixels of a drawn outline
const MAX_POINTS = 40;
const MAX_UNDO = 100;

const editors = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".editor");
  if (!editors.has(root)) editors.set(root, new Editor(root));
  const editor = editors.get(root);
  editor.send = (corners) => setTriggerValue("outline", corners);
  editor.show(data);
}

class Editor {
  constructor(root) {
    this.svg = root.querySelector("svg");
    this.hint = root.querySelector(".hint");
    this.keys = root.querySelector(".keys");
    this.buttons = Object.fromEntries([...root.querySelectorAll("button")].map((button) => [button.name, button]));
    const actions = { use: this.use, redraw: this.redraw, remove: this.remove, undo: this.undo };
    for (const [name, action] of Object.entries(actions)) this.buttons[name].addEventListener("click", () => action.call(this));
    const handlers = {
      pointerdown: this.press,
      pointermove: this.move,
      pointerup: this.release,
      pointercancel: this.cancel,
      dblclick: this.remove,
      keydown: this.type,
    };
    for (const [name, handler] of Object.entries(handlers)) this.svg.addEventListener(name, (event) => handler.call(this, event));
    // A finger that has found a point or the line drags it; elsewhere it scrolls the page.
    const hold = (event) => (this.dragged || this.line) && event.preventDefault();
    this.svg.addEventListener("touchstart", hold, { passive: false });
    new ResizeObserver(() => this.render()).observe(this.svg);
  }

  show(data) {
    const content = JSON.stringify(data);
    if (content === this.content) return; // another part of the page has changed
    this.content = content;
    this.texts = data.texts;
    this.size = [data.width, data.height];
    this.svg.setAttribute("viewBox", `0 0 ${data.width} ${data.height}`);
    this.svg.setAttribute("aria-label", data.texts.label);
    this.keys.textContent = data.texts.keys;
    this.svg.style.maxWidth = `calc(75vh * ${data.width / data.height})`;
    const image = this.svg.querySelector("image");
    for (const [name, value] of Object.entries({ href: data.picture, width: data.width, height: data.height })) image.setAttribute(name, value);
    for (const [name, button] of Object.entries(this.buttons)) button.textContent = data.texts[name];
    this.points = data.corners.map(([x, y]) => [x * data.width, y * data.height]);
    this.past = [];
    this.selected = this.dragged = this.line = null;
    this.drawing = this.points.length === 0;
    this.render();
  }

  // Screen pixels of a pixel of the picture.
  get scale() {
    return this.svg.getScreenCTM()?.a || 1;
  }

  locate(event) {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    return this.clamp([x, y]);
  }

  clamp(point) {
    return point.map((value, axis) => Math.min(Math.max(value, 0), this.size[axis]));
  }

  press(event) {
    if (event.button || this.dragged || this.line) return;
    const at = this.locate(event);
    const before = [...this.points];
    if (this.drawing) this.line = [at];
    else if ((this.selected = this.pick(at, (REACH[event.pointerType] ?? REACH.mouse) / this.scale)) !== null) {
      const grabbed = this.points[this.selected];
      this.dragged = { before, offset: [grabbed[0] - at[0], grabbed[1] - at[1]] };
    }
    if (this.line || this.dragged) {
      event.preventDefault();
      this.pointer = event.pointerId;
      this.svg.setPointerCapture(this.pointer);
      this.svg.focus({ preventScroll: true });
    }
    this.render();
  }

  // Index of the point that a press means; a press on the line adds one. Null for a press elsewhere.
  pick(at, reach) {
    const distances = this.points.map((point) => Math.hypot(point[0] - at[0], point[1] - at[1]));
    const nearest = distances.indexOf(Math.min(...distances));
    if (distances[nearest] <= reach) return nearest;
    const feet = this.points.map((point, index) => project(at, point, this.points[(index + 1) % this.points.length]));
    const edge = feet.reduce((best, foot, index) => (foot.distance < feet[best].distance ? index : best), 0);
    if (!feet.length || feet[edge].distance > reach) return null;
    this.points.splice(edge + 1, 0, feet[edge].at);
    return edge + 1;
  }

  move(event) {
    if ((!this.line && !this.dragged) || event.pointerId !== this.pointer) return; // a second finger moves nothing
    const at = this.locate(event);
    if (this.dragged) this.points[this.selected] = this.clamp([at[0] + this.dragged.offset[0], at[1] + this.dragged.offset[1]]);
    else if (Math.hypot(at[0] - this.line.at(-1)[0], at[1] - this.line.at(-1)[1]) * this.scale >= STEP) this.line.push(at);
    this.render();
  }

  release() {
    if (this.dragged) this.remember(this.dragged.before);
    else if (this.line) this.close();
    this.dragged = this.line = null;
    this.render();
  }

  cancel() {
    if (this.dragged) this.points = this.dragged.before;
    this.selected = this.dragged = this.line = null;
    this.render();
  }

  // End a drawn line; one too small to mean an outline is dropped.
  close() {
    if (longerSide(this.line) * this.scale < MIN_SIDE) return;
    const drawn = simplify(this.line);
    if (drawn.length < 3) return;
    const before = this.points;
    this.points = drawn;
    this.drawing = false;
    this.remember(before);
  }

  remember(before) {
    if (JSON.stringify(before) === JSON.stringify(this.points)) return;
    this.past = [...this.past, before].slice(-MAX_UNDO);
  }

  use() {
    this.send(this.points.map(([x, y]) => [x / this.size[0], y / this.size[1]]));
  }

  redraw() {
    this.drawing = !this.drawing;
    this.selected = null;
    this.render();
  }

  remove() {
    if (this.selected === null || this.points.length <= 3) return;
    const before = this.points;
    this.points = before.filter((_, index) => index !== this.selected);
    this.selected = null;
    this.remember(before);
    this.render();
  }

  undo() {
    if (!this.past.length) return;
    this.points = this.past.at(-1);
    this.past = this.past.slice(0, -1);
    this.selected = null;
    this.drawing = this.points.length === 0;
    this.render();
  }

  type(event) {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const count = this.drawing ? 0 : this.points.length; // while an outline is drawn, no point is visible
    if (this.dragged || this.line) return;
    if (arrows[event.key] && this.selected !== null) this.nudge(arrows[event.key], event.shiftKey ? 10 : 1);
    else if (event.key === "Enter" && count) this.selected = ((this.selected ?? (event.shiftKey ? 0 : -1)) + (event.shiftKey ? count - 1 : 1)) % count;
    else if (event.key === "Delete" || event.key === "Backspace") this.remove();
    else if (event.key === "z" && (event.ctrlKey || event.metaKey)) this.undo();
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.render();
  }

  nudge(direction, pixels) {
    const before = [...this.points];
    const moved = before[this.selected].map((value, axis) => value + (direction[axis] * pixels) / this.scale);
    this.points = before.with(this.selected, this.clamp(moved));
    this.remember(before);
  }

  render() {
    if (!this.texts) return;
    const outline = this.drawing ? asPath(this.line ?? []) : asPath(this.points) + (this.points.length ? "Z" : "");
    for (const path of this.svg.querySelectorAll("path")) path.setAttribute("d", outline);
    const shown = this.drawing ? [] : this.points;
    this.svg.querySelector(".points").replaceChildren(...shown.map((point, index) => this.circle(point, index === this.selected)));
    this.svg.classList.toggle("drawing", this.drawing);
    this.svg.classList.toggle("dragging", this.dragged !== null);
    this.hint.textContent = this.texts[this.drawing ? "draw" : "drag"];
    this.buttons.redraw.setAttribute("aria-pressed", this.drawing);
    this.buttons.use.disabled = this.drawing || !this.past.length;
    this.buttons.remove.disabled = this.selected === null || this.points.length <= 3;
    this.buttons.undo.disabled = !this.past.length;
  }

  circle([x, y], selected) {
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    const radius = (selected ? 7 : 5) / this.scale;
    for (const [name, value] of Object.entries({ cx: x, cy: y, r: radius })) circle.setAttribute(name, value);
    circle.classList.toggle("selected", selected);
    return circle;
  }
}

function asPath(points) {
  return points.map(([x, y], index) => `${index ? "L" : "M"}${x} ${y}`).join("");
}

// Nearest position on a segment, and its distance.
function project(point, start, end) {
  const along = [end[0] - start[0], end[1] - start[1]];
  const square = along[0] ** 2 + along[1] ** 2;
  const part = square ? ((point[0] - start[0]) * along[0] + (point[1] - start[1]) * along[1]) / square : 0;
  const fraction = Math.min(Math.max(part, 0), 1);
  const at = [start[0] + fraction * along[0], start[1] + fraction * along[1]];
  return { at, distance: Math.hypot(point[0] - at[0], point[1] - at[1]) };
}

function longerSide(points) {
  return Math.max(...[0, 1].map((axis) => Math.max(...points.map((point) => point[axis])) - Math.min(...points.map((point) => point[axis]))));
}

// Reduce a drawn line to the corners of a closed polygon.
function simplify(line) {
  const distances = line.map((point) => Math.hypot(point[0] - line[0][0], point[1] - line[0][1]));
  const farthest = distances.indexOf(Math.max(...distances));
  const halves = [line.slice(0, farthest + 1), [...line.slice(farthest), line[0]]];
  let tolerance = TOLERANCE * longerSide(line);
  let corners = halves.flatMap((half) => reduce(half, tolerance));
  while (corners.length > MAX_POINTS) {
    tolerance *= 1.2;
    corners = halves.flatMap((half) => reduce(half, tolerance));
  }
  return corners;
}

// Douglas and Peucker's algorithm; the last point is left out.
function reduce(path, tolerance) {
  let split = 0;
  let most = tolerance;
  for (let index = 1; index < path.length - 1; index += 1) {
    const { distance } = project(path[index], path[0], path.at(-1));
    if (distance > most) [split, most] = [index, distance];
  }
  return split ? [...reduce(path.slice(0, split + 1), tolerance), ...reduce(path.slice(split), tolerance)] : [path[0]];
}
