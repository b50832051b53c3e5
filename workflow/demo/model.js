// The exported networks, as vae/onnx_runtime.py runs them. Arrays are Float32Arrays of whole images or latents, one
// after the other. Nothing here is random: all noise is passed in.
import * as ort from "./ort.js";

const answer = async (name) => {
  const found = await fetch(new URL(name, import.meta.url));
  if (!found.ok) throw new Error(`${name}: ${found.status} ${found.statusText}`);
  return found;
};
const content = async (name) => new Uint8Array(await (await answer(name)).arrayBuffer());

export const facts = await (await answer("model.json")).json();
export const pixels = facts.rows * facts.columns;
export const learnedPrior = facts.networks.includes("prior");

const networks = await Promise.all(facts.networks.map((name) => content(`${name}.onnx`)));
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmBinary = (await content("ort.wasm")).buffer;
const sessions = {};
for (const [place, name] of facts.networks.entries())
  sessions[name] = await ort.InferenceSession.create(networks[place], { executionProviders: ["wasm"] });

const images = (data) => new ort.Tensor("float32", data, [data.length / pixels, facts.rows, facts.columns]);
const latents = (data) => new ort.Tensor("float32", data, [data.length / facts.latents, facts.latents]);
export const sigmoid = (logit) => 1 / (1 + Math.exp(-logit));

/** Mean and log_var of q(z|x). */
export async function encode(image) {
  const { mean, log_var: logVar } = await sessions.encoder.run({ image: images(image) });
  return { mean: mean.data, logVar: logVar.data };
}

/** Draws of the prior from standard normal noise. */
export async function fromNoise(noise) {
  return learnedPrior ? (await sessions.prior.run({ noise: latents(noise) })).latent.data : noise;
}

/** The noise of latents, and log |det d noise / d latent| of each. */
export async function toNoise(latent) {
  if (!learnedPrior) return { noise: latent, logDet: new Float32Array(latent.length / facts.latents) };
  const { noise, log_det: logDet } = await sessions.prior_noise.run({ latent: latents(latent) });
  return { noise: noise.data, logDet: logDet.data };
}

/** Log-odds of each pixel, of latents and, if autoregressive, the pixels before it in `image`. */
export async function logits(latent, image) {
  const given = { latent: latents(latent), ...(facts.autoregressive && { image: images(image) }) };
  return (await sessions.decoder.run(given)).logits.data;
}

/** Binary images drawn from p(x|z), exactly: each pass settles the pixels whose earlier pixels are settled. */
export async function draw(latent, uniform) {
  for (let image = new Float32Array(uniform.length); ; ) {
    const found = await logits(latent, image);
    const drawn = uniform.map((number, place) => number < Math.fround(sigmoid(found[place])));
    if (!facts.autoregressive || drawn.every((pixel, place) => pixel === image[place])) return drawn;
    image = drawn;
  }
}

/** Mean images of latents. */
export async function meanImage(latent) {
  return (await sessions.mean_image.run({ latent: latents(latent) })).image.data;
}

/** Nats of one image, over as many draws of q(z|x) as there is noise for: the means of -log p(x|z) and of
 * log q(z|x) - log p(z), whose sum bounds -log p(x), and the standard error of the sum. */
export async function bound(image, noise) {
  const { mean, logVar } = await encode(image);
  const draws = noise.length / facts.latents;
  const latent = noise.map((number, place) => {
    const of = place % facts.latents;
    return mean[of] + Math.exp(logVar[of] / 2) * number;
  });
  const repeated = Float32Array.from({ length: draws * pixels }, (_, place) => image[place % pixels]);
  const { noise: ofPrior, logDet } = await toNoise(latent);
  const losses = new Float64Array(draws);
  (await logits(latent, repeated)).forEach((logit, place) => {
    losses[Math.floor(place / pixels)] +=
      Math.max(logit, 0) + Math.log1p(Math.exp(-Math.abs(logit))) - repeated[place] * logit;
  });
  const kls = Float64Array.from(logDet, (number) => -number);
  noise.forEach((number, place) => {
    kls[Math.floor(place / facts.latents)] += (ofPrior[place] ** 2 - number ** 2 - logVar[place % facts.latents]) / 2;
  });
  const average = (numbers) => numbers.reduce((sum, one) => sum + one) / draws;
  const loss = average(losses), kl = average(kls);
  const error = Math.sqrt(average(losses.map((one, of) => (one + kls[of] - loss - kl) ** 2)) / (draws - 1));
  return { mean, loss, kl, error };
}
