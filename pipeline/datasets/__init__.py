"""Data sets, a module each: what it needs, and how it is read."""
