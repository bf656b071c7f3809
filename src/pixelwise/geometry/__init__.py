"""Coordinates and homographies: one convention for every pixel and point."""
