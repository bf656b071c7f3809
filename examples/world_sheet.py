"""Draw the README's picture: four scenes of the embedded world, with everything that is known about them."""

import sys

import torch
from PIL import Image as PillowImage

from pixelwise.color.palette import colourise
from pixelwise.data.datasets import world
from pixelwise.data.sample import Sample
from pixelwise.geometry.presence import Presence
from pixelwise.prediction import KeypointsPrediction, to_pillow
from pixelwise.report import sheet

FIELDS = ("image", "labels", "depth", "normals", "keypoints", "edges", "night", "thermal", "aerial", "map")
SIZE = (128, 128)


def row(sample: Sample, meta) -> list[PillowImage.Image]:
    """Return the fields of one scene as pictures."""
    pixels = sample["image"].pixels
    nearness = (400 / sample["depth"].metres.nan_to_num(torch.inf)).clamp(0, 255).to(torch.uint8)
    normals = ((sample["normals"].vectors.nan_to_num(0) + 1) * 127.5).to(torch.uint8)
    people = sample["keypoints"]
    points = people.points.masked_fill((people.presence < Presence.HIDDEN)[..., None], torch.nan)
    drawn = {
        "labels": to_pillow(colourise(sample["labels"].labels, meta.palette)),
        "depth": to_pillow(nearness.expand(3, -1, -1)),
        "normals": to_pillow(normals),
        "keypoints": KeypointsPrediction(pixels, points, torch.ones(points.shape[:2]), meta.points, meta.edges).render(),
    }
    return [drawn[name] if name in drawn else to_pillow(sample[name].pixels) for name in FIELDS]


dataset = world.Config(scenes=8, size=SIZE).open("train")
rows = [row(dataset.sample(i, FIELDS), dataset.meta) for i in (0, 1, 2, 5)]
sheet(rows, SIZE[0]).save(sys.argv[1] if len(sys.argv) > 1 else "world.jpg", quality=88)
