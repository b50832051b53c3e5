"""One module per stage of dvc.yaml; `ls stages` is the graph.

The function `run` of a stage takes sections of the parameters, which `pipeline/params` describes, and paths. Paths of
the same name are the same in all stages: `training_set`, `validation_set` and `test_set` are the folders that
`preprocess` writes, `weights` is the one of `train`. The docstring of `run` describes its other inputs and its outputs.
"""
