"""The textbook model in eager PyTorch, timed. `python -m bench.torch_textbook IMAGES.npy THREADS BATCH SECONDS`."""

import json
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Textbook(nn.Module):
    """The networks of `vae/architectures/textbook.py` with the widths of `presets/textbook.yaml`."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 7 * 7, 16),
            nn.ReLU(),
        )
        self.mean = nn.Linear(16, 2)
        self.log_var = nn.Linear(16, 2)
        self.decoder = nn.Sequential(
            nn.Linear(2, 64 * 7 * 7),
            nn.ReLU(),
            nn.Unflatten(1, (64, 7, 7)),
            nn.ConvTranspose2d(64, 64, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 1, 3, padding=1),
        )

    def loss(self, images: torch.Tensor) -> torch.Tensor:
        """-ELBO of gray images (batch, 1, 28, 28), averaged over the batch, nats."""
        hidden = self.encoder(images)
        mean, log_var = self.mean(hidden), self.log_var(hidden)
        logits = self.decoder(mean + torch.exp(0.5 * log_var) * torch.randn_like(mean))
        reconstruction = functional.binary_cross_entropy_with_logits(logits, images, reduction="sum")
        kl = 0.5 * (mean.square() + log_var.expm1() - log_var).sum()
        return (reconstruction + kl) / len(images)


def main() -> None:
    """Prints images per second, taken after the first fifty steps."""
    path, threads, batch, seconds = sys.argv[1:]
    torch.set_num_threads(int(threads))
    torch.manual_seed(0)
    images = torch.from_numpy(np.load(path)).unsqueeze(1)
    model = Textbook()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    step, began = 0, time.perf_counter()
    while step < 50 or time.perf_counter() - began < float(seconds):
        chosen = torch.randint(len(images), (int(batch),))
        optimizer.zero_grad()
        model.loss(images[chosen]).backward()
        optimizer.step()
        step += 1
        if step == 50:
            began = time.perf_counter()
    elapsed = time.perf_counter() - began
    print(json.dumps({"images_per_second": (step - 50) * int(batch) / elapsed}))


if __name__ == "__main__":
    main()
