"""`make report`: one self-contained page for a revision, or for two side by side."""
