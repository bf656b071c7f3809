"""What key point metrics show in a report: how the errors are distributed, and what a confidence is worth."""

from __future__ import annotations

from PIL import Image as PillowImage

from pixelwise.color.curves import curves_picture
from pixelwise.metrics.calibration import TRUSTED
from pixelwise.metrics.keypoints import KeypointMetrics


def keypoint_pictures(metrics: KeypointMetrics) -> dict[str, PillowImage.Image]:
    """Return the distribution of the errors and the calibration of the confidence by caption, as far as they are known."""
    norm, threshold = next(iter(metrics.thresholds.items()))
    found = {}
    if metrics.distances and metrics.relative(norm).isfinite().any():
        lines = {f"share of instances with a mean error of at most this many {norm}": metrics.curve(norm)}
        found["the cumulative distribution of the errors (CED)"] = curves_picture(lines, f"mean error / {norm}")
    bins = metrics.calibration()
    if len(bins) > 1:
        places = [(b.low + b.high) / 2 for b in bins]
        lines = {
            f"share of errors above {threshold:g} {norm}": [(x, b.gross) for x, b in zip(places, bins, strict=True)],
            f"median error / ({threshold:g} {norm}), at most 1": [
                (x, min(1.0, b.median / threshold)) for x, b in zip(places, bins, strict=True)
            ],
        }
        found[f"what a confidence is worth: {_advice(metrics)}"] = curves_picture(lines, "confidence")
    return found


def _advice(metrics: KeypointMetrics) -> str:
    found, (norm, threshold) = metrics.cutoff(), next(iter(metrics.thresholds.items()))
    rule = f"{TRUSTED:.0%} of the points are within {threshold:g} {norm}"
    if found is None:
        return f"there is no confidence from which on {rule}"
    return f"suggested cut-off {found.confidence:.3g}: from there on {rule}, and {found.kept:.0%} of all points are kept"
