"""Refines q(z|x) of a few images of each split, to split the gap from ELBO to likelihood into its two parts."""

import numpy as np

from pipeline.counts import fitting
from pipeline.errors import StageError
from pipeline.files import load_arrays, save_arrays
from pipeline.params.model import Model
from pipeline.params.refine import MOST, Refine
from pipeline.params.threads import Threads
from pipeline.progress import progress
from pipeline.stage import Input, Output
from pipeline.weights import load_vae
from vae.evaluation import Evaluator
from vae.refinement import refine as refined
from vae.statistics import over_draws


def run(
    model: Model,
    refine: Refine,
    threads: Threads,
    validation_set: Input,
    test_set: Input,
    weights: Input,
    validation: Output,
    test: Output,
) -> None:
    """Writes the bound by the encoder's q(z|x) and by the refined one, on the same draws of noise, and the likelihood.

    Outputs:
        validation: Folder of arrays, none if there are no binary images, (images,) float32: elbo_nats and
            refined_elbo_nats of the first binarised images, their errors over draws elbo_mc_nats and
            refined_elbo_mc_nats, and that of their difference, amortisation_mc_nats; and refined_nll_nats,
            importance-weighted by draws of the refined q(z|x), with its error over draws refined_nll_mc_nats.
        test: The same for the test images.

    Raises:
        StageError: If refining spoils a posterior, or there are fewer images than `refine.images`.
    """
    splits = {validation: load_arrays(validation_set), test: load_arrays(test_set)}
    vae = load_vae(model, threads, weights, splits[test]["images"].shape[1:])
    with progress("refine", len(splits) * refine.steps, " updates") as shown:
        evaluator = Evaluator(vae, MOST, jit_compile=model.jit_compile, workers=threads.intra_op)
        for folder, arrays in splits.items():
            if "binarised" not in arrays:
                save_arrays(folder, {})
                continue
            count = fitting("refine.images", refine.images, len(arrays["binarised"]), MOST, least=2)
            images = arrays["binarised"][:count].astype(np.float32)
            first = evaluator.encode(images)
            best = refined(
                vae,
                images,
                first,
                seed=refine.seed,
                steps=refine.steps,
                learning_rate=refine.learning_rate,
                samples=refine.latent_samples,
                advance=shown.advance,
                jit_compile=model.jit_compile,
            )
            draws = {"seed": refine.seed, "samples": refine.bound_samples}
            before, after = (-np.add(*evaluator.terms(images, posterior, **draws)) for posterior in (first, best))
            likelihood = evaluator.likelihood(images, best, seed=refine.seed, samples=refine.importance_samples)
            elbo, elbo_error = over_draws(before)
            refined_elbo, refined_error = over_draws(after)
            if not np.isfinite(after).all():
                raise StageError(
                    f"refine.learning_rate = {refine.learning_rate:g}: a refined posterior is not finite any more; "
                    f"expected a rate that its ELBO rises with: a tenth of it may do"
                )
            save_arrays(
                folder,
                {
                    "elbo_nats": elbo,
                    "elbo_mc_nats": elbo_error,
                    "refined_elbo_nats": refined_elbo,
                    "refined_elbo_mc_nats": refined_error,
                    "amortisation_mc_nats": over_draws(after - before)[1],
                    "refined_nll_nats": likelihood.nll,
                    "refined_nll_mc_nats": likelihood.monte_carlo_error,
                },
            )
