"""Priors p(z), one per module; the module is named as `model.prior`."""
