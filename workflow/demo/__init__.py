"""The demo: the exported networks in a browser."""
