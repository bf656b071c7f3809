"""Measures whose names state their convention."""
