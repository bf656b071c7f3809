"""Networks that only look, one file per kind."""
