"""Packs of what DVC holds: made, tagged, pulled; and the folder for a hub."""
