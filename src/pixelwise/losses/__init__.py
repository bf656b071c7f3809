"""Losses that divide by what was valid."""
