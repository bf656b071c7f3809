"""One file per experiment: `pixelwise lab` finds it by its name."""
