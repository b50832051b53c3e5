"""Encoder and decoder pairs, one per module; the module is named as `model.architecture`."""
