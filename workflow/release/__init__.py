"""Packs of what DVC holds: made, tagged, pulled."""
