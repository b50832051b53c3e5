"use strict";
// The latent explorer: a point of the plane, the image decoded there, and the nearest real images in all latents.

const NEAREST = 8;
const SVG = "http://www.w3.org/2000/svg";

async function picture(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}

function svgElement(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function copy(canvas, from, column, row) {
  const { width, height } = canvas;
  canvas.getContext("2d").drawImage(from, column * width, row * height, width, height, 0, 0, width, height);
}

// The latents of images or points, one after the other, from their base64.
function latentsOf(text, step) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return Float32Array.from(new Int16Array(bytes.buffer), (number) => number * step);
}

// A function from latents to the nearest images in all latents, by the distance of their posterior means.
function neighbours(data) {
  const means = latentsOf(data.mean_int16, data.mean_step);
  const size = data.origin.length;
  return (latent) => {
    const far = data.label.map((_, number) => {
      let square = 0;
      for (let j = 0; j < size; j++) square += (means[number * size + j] - latent[j]) ** 2;
      return { number, distance: Math.sqrt(square) };
    });
    return far.sort((a, b) => a.distance - b.distance).slice(0, NEAREST);
  };
}

// A dot for each real image, in a group for each class. A cell of the plane is a unit wide and high.
function drawDots(dots, data, place) {
  const groups = data.classes.map((_, label) => svgElement("g", { class: "c" + label }));
  data.label.forEach((label, number) => {
    const [x, y] = [data.position[2 * number], data.position[2 * number + 1]];
    groups[label].append(svgElement("circle", { cx: place(x), cy: place(-y), r: 0.2 }));
  });
  dots.append(...groups);
  return groups;
}

function step(key) {
  return { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[key];
}

class Explorer {
  constructor(root, data, grid, images) {
    Object.assign(this, { root, data, grid, images, last: data.grid_side - 1, near: neighbours(data) });
    this.points = data.grid_int16 && latentsOf(data.grid_int16, data.mean_step);
    this.part("grid").getContext("2d").drawImage(grid, 0, 0);
    this.dots = drawDots(this.part("dots"), data, (value) => (value / data.extent + 1) * this.last / 2 + 0.5);
    this.keys = [...root.querySelectorAll(".key")];
    this.listen();
    this.show();
  }

  part(name) {
    return this.root.querySelector("." + name);
  }

  get cell() { // its column, and its row from below
    return [Number(this.part("across").value), Number(this.part("up").value)];
  }

  get point() { // in standard deviations
    return this.cell.map((number) => (2 * number / this.last - 1) * this.data.extent);
  }

  get latent() { // of the decoded point; those of older commits lie in the plane itself
    const [column, up] = this.cell, [x, y] = this.point, { origin, axes, grid_side } = this.data;
    const first = ((this.last - up) * grid_side + column) * origin.length;
    return origin.map((mean, j) => this.points ? this.points[first + j] : mean + x * axes[0][j] + y * axes[1][j]);
  }

  show() {
    const [column, row] = [this.cell[0], this.last - this.cell[1]];
    copy(this.part("image"), this.grid, column, row);
    this.part("marker").setAttribute("x", column);
    this.part("marker").setAttribute("y", row);
    const told = this.point.map((value) => value.toFixed(2));
    this.part("across").setAttribute("aria-valuetext", `${told[0]} standard deviations`);
    this.part("up").setAttribute("aria-valuetext", `${told[1]} standard deviations`);
    this.part("place").textContent = told.join(", ");
  }

  move(column, row) {
    this.part("across").value = column; // a slider keeps to its ends
    this.part("up").value = row;
    this.show();
  }

  moveTo(event) {
    const box = this.part("plane").getBoundingClientRect();
    const cell = (share) => Math.floor(share * this.data.grid_side);
    const down = cell((event.clientY - box.top) / box.height);
    this.move(cell((event.clientX - box.left) / box.width), this.last - down);
  }

  find() {
    const found = this.near(this.latent);
    this.part("nearest").replaceChildren(...found.map((one) => this.item(one)));
    this.part("said").textContent = `Nearest to ${this.part("place").textContent} in all ${this.data.origin.length} ` +
      `latents, among a seeded, class-stratified ${this.data.label.length} validation images, with their distance:`;
  }

  item({ number, distance }) {
    const item = document.createElement("li"), canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [this.data.width, this.data.height];
    canvas.setAttribute("aria-hidden", true);
    copy(canvas, this.images, number % this.data.columns, Math.floor(number / this.data.columns));
    item.dataset.index = this.data.index[number];
    item.append(canvas, `${this.data.classes[this.data.label[number]]}, ${distance.toFixed(2)}`);
    return item;
  }

  press(event) {
    const by = step(event.key);
    if (by) this.move(this.cell[0] + by[0], this.cell[1] + by[1]);
    else if (event.key === "Enter") this.find();
    else return;
    event.preventDefault();
  }

  toggle(label) {
    const on = this.dots[label].toggleAttribute("hidden") === false;
    this.keys[label].setAttribute("aria-pressed", on);
    this.part("plane").classList.toggle("bare", this.dots.every((group) => group.hasAttribute("hidden")));
  }

  listen() {
    const plane = this.part("plane");
    plane.addEventListener("pointerdown", (event) => { plane.setPointerCapture(event.pointerId); this.moveTo(event); });
    plane.addEventListener("pointermove", (event) => { if (plane.hasPointerCapture(event.pointerId)) this.moveTo(event); });
    plane.addEventListener("click", () => this.find());
    plane.addEventListener("keydown", (event) => this.press(event));
    this.part("find").addEventListener("click", () => this.find());
    for (const slider of [this.part("across"), this.part("up")]) {
      slider.addEventListener("input", () => this.show());
      slider.addEventListener("keydown", (event) => { if (event.key === "Enter") this.find(); });
    }
    this.keys.forEach((key, label) => key.addEventListener("click", () => this.toggle(label)));
    this.part("all").addEventListener("click", () => this.toggleAll());
  }

  toggleAll() {
    const hide = this.dots.some((group) => !group.hasAttribute("hidden"));
    this.dots.forEach((group, label) => { if (group.hasAttribute("hidden") !== hide) this.toggle(label); });
  }
}

async function explore(root) {
  const data = JSON.parse(root.querySelector("script.data").textContent);
  const real = JSON.parse(document.getElementById("images").textContent)[data.images];
  const [grid, images] = await Promise.all([picture(data.grid), picture(real)]);
  new Explorer(root, data, grid, images);
  root.dataset.ready = "true";
}

document.querySelectorAll(".explorer").forEach(explore);
