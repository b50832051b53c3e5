"""Draws ten images into drawn.png: this folder, ONNX Runtime, numpy and Pillow are all it needs."""

import os
from pathlib import Path

import numpy as np
from PIL import Image

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
from onnxruntime import InferenceSession

folder = Path(__file__).parent
mean_image = InferenceSession(folder / "mean_image.onnx")
latent = np.random.default_rng(0).standard_normal((10, mean_image.get_inputs()[0].shape[1]), np.float32)
if (folder / "prior.onnx").exists():  # else the prior is the standard normal
    (latent,) = InferenceSession(folder / "prior.onnx").run(None, {"noise": latent})
(images,) = mean_image.run(None, {"latent": latent})
Image.fromarray(np.round(np.hstack(images) * 255).astype(np.uint8)).save("drawn.png")
