"""How label maps and masks say that nothing is known of a pixel, shared by the data, the codecs, the losses and the metrics."""

UNKNOWN = 255
"""The value of an unlabelled pixel in every label map and mask inside pixelwise, whatever the file says."""
