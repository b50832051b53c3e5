"use strict";
// The latent explorer: a point of the plane, the garment decoded there, and the nearest real images in all latents.

const SIDE = 28;
const NEAREST = 8;

function whole(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Int16Array(bytes.buffer);
}

async function picture(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}

async function explore(root) {
  const source = root.querySelector("script.data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const means = whole(data.mean_int16);
  const real = JSON.parse(document.getElementById("images").textContent)[data.images];
  const [grid, images] = await Promise.all([picture(data.grid), picture(real)]);
  const part = (name) => root.querySelector("." + name);
  const plane = part("plane"), across = part("across"), down = part("down"), dots = part("dots");
  const colours = data.classes.map((_, label) => getComputedStyle(part("c" + label)).backgroundColor);
  const last = data.grid_side - 1;
  const latents = data.origin.length;

  const coordinate = (cell) => (2 * cell / last - 1) * data.extent;
  const point = () => [coordinate(Number(across.value)), coordinate(Number(down.value))];

  function cut(canvas, from, column, row) {
    canvas.getContext("2d").drawImage(from, column * SIDE, row * SIDE, SIDE, SIDE, 0, 0, SIDE, SIDE);
  }

  function drawPlane() {
    const context = plane.getContext("2d");
    context.globalAlpha = dots.checked ? 0.45 : 1;
    context.clearRect(0, 0, plane.width, plane.height);
    context.drawImage(grid, 0, 0);
    context.globalAlpha = 1;
    const place = (value) => (value / data.extent * last / 2 + last / 2 + 0.5) * SIDE;
    if (dots.checked) {
      data.label.forEach((label, number) => {
        context.beginPath();
        context.arc(place(data.position[2 * number]), plane.height - place(data.position[2 * number + 1]), 4, 0, 7);
        context.fillStyle = colours[label];
        context.fill();
      });
    }
    context.lineWidth = 4;
    context.strokeStyle = "#fff";
    context.strokeRect(Number(across.value) * SIDE, (last - Number(down.value)) * SIDE, SIDE, SIDE);
  }

  function show() {
    cut(part("garment"), grid, Number(across.value), last - Number(down.value));
    const [x, y] = point();
    const text = `${x.toFixed(2)}, ${y.toFixed(2)} standard deviations`;
    part("place").textContent = text;
    across.setAttribute("aria-valuetext", `${x.toFixed(2)} standard deviations`);
    down.setAttribute("aria-valuetext", `${y.toFixed(2)} standard deviations`);
    drawPlane();
  }

  function find() {
    const [x, y] = point();
    const latent = data.origin.map((mean, j) => mean + x * data.axes[0][j] + y * data.axes[1][j]);
    const found = data.label.map((label, number) => {
      let square = 0;
      for (let j = 0; j < latents; j++) square += (means[number * latents + j] * data.mean_step - latent[j]) ** 2;
      return { label, number, distance: Math.sqrt(square) };
    }).sort((a, b) => a.distance - b.distance).slice(0, NEAREST);
    part("nearest").replaceChildren(...found.map(({ label, number, distance }) => {
      const item = document.createElement("li"), canvas = document.createElement("canvas");
      canvas.width = canvas.height = SIDE;
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", data.classes[label]);
      cut(canvas, images, number % data.columns, Math.floor(number / data.columns));
      item.dataset.index = data.index[number];
      item.append(canvas, `${data.classes[label]}, ${distance.toFixed(2)}`);
      return item;
    }));
    part("said").textContent = `Nearest to ${x.toFixed(2)}, ${y.toFixed(2)} in all ${latents} latents, among a seeded, ` +
      `class-stratified ${data.label.length} validation images: ${found.map((one) => data.classes[one.label]).join(", ")}.`;
  }

  function move(event) {
    const box = plane.getBoundingClientRect();
    const cell = (share) => Math.max(0, Math.min(last, Math.floor(share * data.grid_side)));
    across.value = cell((event.clientX - box.left) / box.width);
    down.value = last - cell((event.clientY - box.top) / box.height);
    show();
  }

  plane.addEventListener("pointerdown", (event) => { plane.setPointerCapture(event.pointerId); move(event); });
  plane.addEventListener("pointermove", (event) => { if (plane.hasPointerCapture(event.pointerId)) move(event); });
  plane.addEventListener("click", find);
  for (const slider of [across, down]) {
    slider.addEventListener("input", show);
    slider.addEventListener("keydown", (event) => { if (event.key === "Enter") find(); });
  }
  dots.addEventListener("change", drawPlane);
  part("find").addEventListener("click", find);
  show();
  root.dataset.ready = "true";
}

document.querySelectorAll(".explorer").forEach(explore);
