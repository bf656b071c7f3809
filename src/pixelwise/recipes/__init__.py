"""Recipes that stand apart from their task, one file per family, found by being there."""
