"""One module per stage of dvc.yaml; `ls stages` is the graph."""
