"""Building blocks and analysis of convolutional networks."""
