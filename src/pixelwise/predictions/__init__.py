"""Typed answers, one file per kind."""
