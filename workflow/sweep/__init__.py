"""Many runs of the pipeline's training on Ray: `make sweep`, and the trials that `make seeds` is made of."""
