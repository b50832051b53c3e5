"""Variational autoencoders as a pure library: arrays in, arrays or figures out."""
