"""Whether a commit's numbers are true: checks that need no training, and the whole pipeline run anew."""
