// What the page does: it draws the noise, asks the networks, and paints.
import { bound, draw, encode, facts, fromNoise, meanImage, pixels, toNoise } from "./model.js";

const TILES = 12, LATENT_DRAWS = 16, BRUSH = Math.min(facts.rows, facts.columns) / 22;
const one = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];

const uniforms = (count) => Float32Array.from({ length: count }, () => Math.floor(Math.random() * 2 ** 24) / 2 ** 24);
const normals = (count) => Float32Array.from({ length: count },
  () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random()));
const part = (array, length, place) => array.slice(length * place, length * (place + 1));
const breath = () => new Promise((resolve) => setTimeout(resolve));

/** Paints gray values, 0 to 1, into a canvas. */
function paint(canvas, gray) {
  canvas.width = facts.columns;
  canvas.height = facts.rows;
  const bytes = new Uint8ClampedArray(4 * pixels).fill(255);
  gray.forEach((value, place) => bytes.fill(Math.round(255 * value), 4 * place, 4 * place + 3));
  canvas.getContext("2d").putImageData(new ImageData(bytes, facts.columns, facts.rows), 0, 0);
}

/** Work that is done again if it was asked for while it went on, and then once: what sliders ask in between is skipped. */
function latest(work) {
  let busy = false, again = false;
  return async () => {
    again = true;
    if (busy) return;
    busy = true;
    try {
      for (; again; await breath()) {
        again = false;
        await work(() => again);
      }
    } catch (error) {
      one("#said").textContent = `This failed: ${error.message}`;
    } finally {
      busy = false;
    }
  };
}

/** Shows what latents and uniform numbers give: the draw at once, the mean when nothing newer waits. */
async function show(place, latent, uniform, superseded) {
  paint(one(`${place} .drawn`), await draw(latent, uniform));
  await breath();
  if (!superseded()) paint(one(`${place} .mean`), await meanImage(latent));
}

// ---- new images

let tiles = [], chosen = 0;
for (let place = 0; place < TILES; place++) {
  const button = document.createElement("button");
  button.setAttribute("aria-label", `New image ${place + 1}`);
  button.append(document.createElement("canvas"), document.createElement("canvas"));
  button.addEventListener("click", () => choose(place));
  one(".tiles").append(button);
}

const drawTiles = latest(async () => {
  const noise = normals(TILES * facts.latents), uniform = uniforms(TILES * pixels);
  const latent = await fromNoise(noise), drawn = await draw(latent, uniform);
  tiles = Array.from({ length: TILES }, (_, place) => ({
    noise: part(noise, facts.latents, place), latent: part(latent, facts.latents, place),
    uniform: part(uniform, pixels, place),
  }));
  for (const [place, { children }] of all(".tiles button").entries()) {
    paint(children[0], part(drawn, pixels, place));
    paint(children[1], new Float32Array(pixels)); // black until its mean is there
  }
  choose(0);
  moveBetween();
  paintMeans();
});

const paintMeans = latest(async (superseded) => {
  for (const [place, { latent }] of tiles.entries()) {
    const mean = await meanImage(latent);
    if (superseded()) return;
    paint(all(".tiles button")[place].children[1], mean);
    await breath();
  }
});

one("#again").addEventListener("click", drawTiles);

// ---- along directions

const sliders = all("#move input");
function choose(place) {
  chosen = place;
  all(".tiles button").forEach((button, at) => button.setAttribute("aria-pressed", String(at === place)));
  for (const slider of sliders) {
    slider.value = tiles[place].noise[slider.dataset.place];
    slider.dataset.unmoved = slider.value; // rounded, and within the slider's bounds
  }
  move();
}
const move = latest(async (superseded) => {
  const tile = tiles[chosen], noise = tile.noise.slice();
  for (const slider of sliders)
    if (slider.value !== slider.dataset.unmoved) noise[slider.dataset.place] = slider.value;
  await show("#move", await fromNoise(noise), tile.uniform, superseded);
});
for (const slider of sliders) slider.addEventListener("input", move);
one("#back").addEventListener("click", () => choose(chosen));

// ---- from one image to another

const real = facts.examples.map((name) => ({ name }));
const yours = { gray: new Float32Array(pixels), uniform: uniforms(pixels) };
const ends = () => [...tiles, ...real, yours];
for (const select of all("#between select")) {
  Array.from({ length: TILES }, (_, place) => select.append(new Option(`New image ${place + 1}`)));
  real.forEach(({ name }, place) => select.append(new Option(`${name}, real (${place + 1})`)));
  select.append(new Option("Your image, below"));
  select.addEventListener("change", () => moveBetween());
}
one("#between .to").selectedIndex = 1;

/** What the model is given of a gray image. */
const given = ({ gray, uniform }) => facts.binarisation === "none" ? gray
  : gray.map((value, place) => facts.binarisation === "drawn" ? uniform[place] < value : value >= 0.5);

const moveBetween = latest(async (superseded) => {
  const chosenEnds = all("#between select").map((select) => ends()[select.selectedIndex]);
  const way = Number(one("#between .way").value);
  const [from, to] = await Promise.all(chosenEnds.map(async (end) =>
    end.noise ?? (await toNoise((await encode(given(end))).mean)).noise));
  let shares = [1 - way, way];
  const dot = (a, b) => a.reduce((sum, value, place) => sum + value * b[place], 0);
  const cosine = dot(from, to) / Math.sqrt(dot(from, from) * dot(to, to));
  const angle = Math.acos(Math.max(-1, Math.min(1, cosine)));
  if (angle > 1e-3) shares = shares.map((share) => Math.sin(share * angle) / Math.sin(angle));
  const place = from.map((value, at) => shares[0] * value + shares[1] * to[at]);
  await show("#between", await fromNoise(place), chosenEnds[0].uniform, superseded);
});
one("#between .way").addEventListener("input", moveBetween);

// ---- an image of one's own

const pad = one(".pad canvas"), brush = one(".pad span");
const context = pad.getContext("2d", { willReadFrequently: true });
const extent = new OffscreenCanvas(facts.columns, facts.rows).getContext("2d"); // white where Invert inverts

const reconstruct = latest(async (superseded) => {
  const { data } = context.getImageData(0, 0, facts.columns, facts.rows);
  yours.gray = Float32Array.from({ length: pixels }, (_, place) => data[4 * place] / 255);
  const image = Float32Array.from(given(yours));
  paint(one("#yours .seen"), image);
  const { mean, loss, kl, error } = await bound(image, normals(LATENT_DRAWS * facts.latents));
  const draws = `mean of ${LATENT_DRAWS} draws of q(z|x)`;
  one("#yours .told").textContent = facts.binarisation === "none"
    ? `Cross-entropy of gray pixels, no likelihood: ${loss.toFixed(1)} nats, ${draws}.`
    : `−log p(x) is at most ${(loss + kl).toFixed(1)} ± ${error.toFixed(1)} nats, ${draws}: reconstruction loss −log p(x|z) `
      + `of ${loss.toFixed(1)}, and KL(q(z|x) || p(z)) of ${kl.toFixed(1)}.`;
  await show("#yours", mean, yours.uniform, superseded);
  if (all("#between select").some((select) => select.selectedIndex === ends().length - 1)) moveBetween();
});

/** Puts a picture into the pad: gray, whole, in its middle. Says if it looks inverted beside the model's data. */
async function take(source) {
  const whole = await createImageBitmap(source);
  const scale = Math.min(facts.columns / whole.width, facts.rows / whole.height);
  const width = Math.max(1, Math.round(whole.width * scale)), height = Math.max(1, Math.round(whole.height * scale));
  const small = await createImageBitmap(whole, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
  const left = (facts.columns - width) >> 1, top = (facts.rows - height) >> 1;
  clear();
  context.drawImage(small, left, top);
  extent.globalCompositeOperation = "destination-in"; // leaves white as opaque as the picture is
  extent.drawImage(small, left, top);
  fill(extent, "destination-over", "#000");
  const picture = context.getImageData(left, top, width, height), { data } = picture;
  let border = 0, count = 0;
  for (let at = 0; at < data.length; at += 4) {
    const gray = Math.round(0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]);
    data.fill(gray, at, at + 3);
    const column = (at / 4) % width, row = Math.floor(at / 4 / width);
    if (column % (width - 1) && row % (height - 1)) continue;
    border += gray / 255;
    count++;
  }
  context.putImageData(picture, left, top);
  border /= count;
  const inverted = Math.abs(border - facts.border_gray) - Math.abs(1 - border - facts.border_gray) > 0.25;
  if (inverted) one("#noted").textContent = "Your picture looks inverted beside the model’s data: try Invert.";
  reconstruct();
}
async function takeFile(file) {
  if (!file) return;
  await take(file).catch(() => { one("#noted").textContent = `${file.name} cannot be read as a picture.`; });
  pad.scrollIntoView({ block: "nearest" }); // it may have been dropped elsewhere
}
function fill(canvas, operation, colour) {
  Object.assign(canvas, { globalCompositeOperation: operation, fillStyle: colour });
  canvas.fillRect(0, 0, pad.width, pad.height);
}
function clear() {
  fill(context, "source-over", "#000");
  fill(extent, "source-over", "#fff");
  one("#noted").textContent = "";
  yours.uniform = uniforms(pixels);
}
function stroke(from, to) {
  Object.assign(context, { strokeStyle: "#fff", lineWidth: 2 * BRUSH, lineCap: "round" });
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(to[0] + 0.01, to[1]); // a line of no length would paint nothing
  context.stroke();
  reconstruct();
}

pad.width = facts.columns;
pad.height = facts.rows;
let last = null, at = [facts.columns / 2, facts.rows / 2];
const place = ({ offsetX, offsetY }) =>
  [offsetX / pad.clientWidth * facts.columns, offsetY / pad.clientHeight * facts.rows];
pad.addEventListener("pointerdown", (event) => {
  pad.setPointerCapture(event.pointerId);
  last = place(event);
  stroke(last, last);
});
pad.addEventListener("pointermove", (event) => { if (last) stroke(last, last = place(event)); });
for (const ending of ["pointerup", "pointercancel"]) pad.addEventListener(ending, () => { last = null; });
const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] };
let painting = false;
pad.addEventListener("keydown", (event) => {
  if (!steps[event.key]) return;
  event.preventDefault();
  painting ||= event.key === " ";
  const from = at, limits = [facts.columns, facts.rows];
  at = at.map((value, axis) => Math.max(0, Math.min(limits[axis], value + steps[event.key][axis])));
  if (painting) stroke(from, at);
  showBrush(true);
});
pad.addEventListener("keyup", (event) => { painting &&= event.key !== " "; });
pad.addEventListener("blur", () => showBrush(painting = false));
function showBrush(shown) {
  brush.hidden = !shown;
  const [left, top] = [(at[0] - BRUSH) / facts.columns, (at[1] - BRUSH) / facts.rows];
  Object.assign(brush.style, { left: `${100 * left}%`, top: `${100 * top}%`,
    width: `${200 * BRUSH / facts.columns}%`, height: `${200 * BRUSH / facts.rows}%` });
}
one("#clear").addEventListener("click", () => { clear(); reconstruct(); });
one("#invert").addEventListener("click", () => {
  context.globalCompositeOperation = "difference";
  context.drawImage(extent.canvas, 0, 0);
  context.globalCompositeOperation = "source-over";
  one("#noted").textContent = "";
  reconstruct();
});
one("#yours input").addEventListener("change", (event) => takeFile(event.target.files[0]));
for (const kind of ["dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    one(".pad").classList.toggle("over", kind === "dragover");
    if (kind === "drop") takeFile(event.dataTransfer.files[0]);
  });

// ---- examples, and the first images

const sheet = await createImageBitmap(await (await fetch("examples.png")).blob());
for (const [number, example] of real.entries()) {
  const button = document.createElement("button"), canvas = document.createElement("canvas");
  canvas.width = facts.columns;
  canvas.height = facts.rows;
  const inside = canvas.getContext("2d");
  inside.drawImage(sheet, -number * facts.columns, 0);
  const { data } = inside.getImageData(0, 0, facts.columns, facts.rows);
  example.gray = Float32Array.from({ length: pixels }, (_, at) => data[4 * at] / 255);
  example.uniform = uniforms(pixels);
  button.setAttribute("aria-label", `${example.name}, real image ${number + 1}`);
  button.append(canvas);
  button.addEventListener("click", () => take(canvas));
  one(".examples").append(button);
}
await drawTiles();
await take(one(".examples canvas"));
one("#said").textContent = "";
document.body.dataset.ready = "true";
