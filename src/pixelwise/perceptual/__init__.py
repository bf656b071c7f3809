"""Losses that see more than pixels, one file per kind."""
