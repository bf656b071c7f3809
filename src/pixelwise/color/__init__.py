"""Colours of classes and of quantities."""
