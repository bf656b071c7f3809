"""The pairs of the lecture, and the user's own: recipes of paired translation.

Unless a docstring says otherwise, network and settings are those of pix2pix as published, 256 x 256, for a GPU. On a CPU add
`view.size=128x128 view.load_size=143x143 network.depth=7 network.width=32 task.discriminator.width=32 steps=2000`.
"""

from __future__ import annotations

from typing import Any

from pixelwise.data.augment import Augment, View
from pixelwise.data.datasets import boundary_folder, image_folder, paired_folder, segmentation_folder, world
from pixelwise.nn.networks import patchgan, pix2pix_unet
from pixelwise.recipe import Recipe, recipe
from pixelwise.tasks.translation import Config
from pixelwise.training import Optimizer, Schedule


@recipe
def world_translation() -> Recipe:
    """Aerial views of the embedded world to their maps, 64 x 64, pix2pix with a small generator; part of the demo.

    Expect L1 0.062 on 96 unseen scenes (linear map of the colour 0.088, mean map 0.096) after 45 seconds on 2 cores with AMX.
    """
    return Recipe(
        name="world_translation",
        task=Config(source="aerial", target="map", discriminator=patchgan.Config(width=32, layers=2)),
        data=world.Config(scenes=384),
        view=View(size=(64, 64)),
        augment=Augment(flip=0.5),
        network=pix2pix_unet.Config(width=32, depth=6),
        optimizer=Optimizer(kind="adam", lr=4e-4, betas=(0.5, 0.999)),
        schedule=Schedule(kind="linear", hold=0.5),
        steps=800,
        batch_size=8,
        evaluate_every=200,
        pictures_every=80,
    )


@recipe
def world_edges2photo() -> Recipe:
    """Edge drawings of the embedded world to its photographs, 128 x 128: colours cannot be known, so judge it by eye.

    Its quality is not measured yet. A step takes 0.38 s of one core with AMX, so the whole about an hour.
    """
    base = world_translation()
    return base.model_copy(
        update={
            "name": "world_edges2photo",
            "task": Config(source="edges", target="image"),
            "data": world.Config(scenes=1024, size=(128, 128)),
            "view": View(size=(128, 128)),
            "network": pix2pix_unet.Config(width=48, depth=7),
            "optimizer": Optimizer(kind="adam", lr=2e-4, betas=(0.5, 0.999)),
            "steps": 10000,
            "batch_size": 4,
            "evaluate_every": 1000,
            "pictures_every": 1000,
        }
    )


@recipe
def translation() -> Recipe:
    """Your own pairs, side by side or in two folders: data.root=FOLDER; pix2pix as published at 256 x 256.

    A start, not a result: the published length is about 100,000 pictures seen, which wants a GPU; try steps=2000 first.
    """
    return facades().model_copy(
        update={"name": "translation", "data": paired_folder.Config(root="data/translation"), "steps": 40000}
    )


@recipe
def facades() -> Recipe:
    """CMP facades, painted labels to photograph, pix2pix as published at 256 x 256 (54.4 M and 2.77 M parameters).

    The published length is 200 epochs, 80,000 steps: for a GPU. After steps=2400 (29 minutes on one busy CPU core with AMX)
    walls and windows are there, textures are coarse: L1 0.181 on the 100 validation pairs, where the mean photograph has
    0.178, a linear map of the colour 0.201 and the nearest neighbour 0.230. L1 prefers blur (task.objective=l1 has 0.166
    after steps=1600, 9 minutes); judge by the pictures. At 128 x 128 and half the width, 5000 steps take 9.5 minutes of a
    core: L1 0.176, KID 0.85, FCN-score 0.218 (L1 alone 0.164, 4.3, 0.121; real photographs 0.312; see docs/translation.md).
    """
    return Recipe(
        name="facades",
        task=Config(),
        data=paired_folder.Config(root="data/facades", a="labels", b="photos"),
        view=View(size=(256, 256), load_size=(286, 286)),
        augment=Augment(flip=0.5),
        network=pix2pix_unet.Config(),
        optimizer=Optimizer(kind="adam", lr=2e-4, betas=(0.5, 0.999)),
        schedule=Schedule(kind="linear", hold=0.5),
        steps=80000,
        batch_size=1,
        evaluate_every=4000,
        pictures_every=4000,
        checkpoint_every=4000,
    )


def _pair(name: str, data: Any, source: str = "a", target: str = "b") -> Recipe:
    """Return the published pix2pix for other pairs."""
    task = Config(source=source, target=target)
    return facades().model_copy(update={"name": name, "data": data, "task": task, "steps": 40000})


@recipe
def pix2pix_2017() -> Recipe:
    """pix2pix with the settings of its Torch code (Isola et al. 2017): data.root=FOLDER with pairs; steps=200 x pictures.

    As `facades`, but dropout in the three innermost decoder stages, the discriminator's loss not halved, the generator
    taught by it before its update, a learning rate that never falls, and dropout on at test as the only noise, by a seed.
    Weights from N(0, 0.02); batch norm takes each picture's own statistics at test (published, batch 1); float32.
    What differs: the Torch code zeroes the biases of all convolutions at every step, here those of the first and last are
    trained; it sends the generator's gradient back through the updated discriminator, here both are taken at the same weights.
    A step equals the paper's equations (tests/test_adversary.py). For a GPU; 80000 steps are the 400 pairs of facades.
    """
    base = facades()
    return base.model_copy(
        update={
            "name": "pix2pix_2017",
            "task": Config(order="simultaneous", halved=False, noise="dropout"),
            "data": paired_folder.Config(root="data/pix2pix_2017"),
            "network": pix2pix_unet.Config(dropout_stages=(1, 2, 3)),
            "schedule": Schedule(kind="constant"),
            "precision": "float32",
        }
    )


@recipe
def world_map2aerial() -> Recipe:
    """Maps of the embedded world to aerial views, 64 x 64, pix2pix with a small generator: what `world_translation` undoes.

    The picture is one of many that fit a map. L1 0.123 on 96 unseen scenes (mean view 0.123, linear map of
    the colour 0.104) after 2 minutes of one core: streets, roofs and rivers lie where they should, in colours of their own.
    """
    base = world_translation()
    task = base.task.model_copy(update={"source": "map", "target": "aerial"})
    return base.model_copy(update={"name": "world_map2aerial", "task": task})


@recipe
def labels2street() -> Recipe:
    """CamVid's label maps to streets: train/images, train/labels and the same of val in data.root; train 367, val 101 pictures.

    The labels enter as one sheet per class; pixels without a label are 0 in all. Not measured at 256 x 256: 1.4 s of one core
    a step in float32. 400 steps at 128 x 128 with network.width=16, a minute and a half of one core, have L1 0.115 on 12
    pictures of val (mean street 0.155, linear map of the colour 0.198): sky, trees and road, blurred (docs/translation.md).
    """
    made = _pair("labels2street", segmentation_folder.Config(root="data/camvid"), "labels", "image")
    return made.override(["task.labels=one_hot"])


@recipe
def grey2colour() -> Recipe:
    """Black and white to colour: photographs in data.root, to any depth; their luma is the input. A tenth is held out.

    The network paints all three channels; `colorization` keeps the picture's own lightness and is the better way to colour
    photographs. Not measured yet; 1.4 s of one core a step in float32.
    """
    return _pair("grey2colour", image_folder.Config(root="data/imagenet_one_per_class"), "grey", "image")


@recipe
def day2night() -> Recipe:
    """Webcams by day to the same by night: folders day and night in data.root, with names such as cam03_07.jpg.

    Every day picture of a camera is a pair with every night picture of it. A fifth of the cameras is held out, so what is
    measured is how a place looks by night that was never seen. 1000 steps at 128 x 128 are too few (L1 0.219, the mean night
    0.177; docs/translation.md); the published size and length are not measured: 1.4 s of one core a step in float32.
    """
    data = paired_folder.Config(root="data/day_night", a="day", b="night", match="group", val_fraction=0.2)
    return _pair("day2night", data)


@recipe
def edges2cats() -> Recipe:
    """Line drawings to cats: photographs in the folder cats of data.root, a tenth held out; their outlines are drawn as read.

    The lines are where the luma is steep, thinned and followed (`data.lines`); for the lines of a trained detector see
    docs/translation.md. Not measured at 256 x 256, 1.4 s of one core a step in float32. 600 steps at 128 x 128 with
    network.width=16, two minutes of one core, teach nothing yet: L1 0.233 on the 40 held out, where the mean cat has 0.224.
    """
    return _pair("edges2cats", image_folder.Config(root="data/cats_dogs", train=("cats",)), "lines", "image")


@recipe
def thermal2rgb() -> Recipe:
    """Thermal to visible light, RoadScene: train/infrared and train/visible in data.root, equal names; a tenth is held out.

    Colours cannot be seen in warmth: expect plausible ones. 1000 steps at 128 x 128 are too few (L1 0.150, the mean picture
    0.148; docs/translation.md); the published size and length are not measured: 1.4 s of one core a step in float32.
    """
    return _pair("thermal2rgb", paired_folder.Config(root="data/roadscene_thermal", a="infrared", b="visible"))


@recipe
def sketch2image() -> Recipe:
    """Outlines that people drew to photographs, BSDS500: train (200 pictures) and val (100) of data.root.

    A line is the darker the more annotators drew it. Few pictures of everything there is: expect colours in the shapes, not
    things. Not measured yet; 1.4 s of one core a step in float32.
    """
    return _pair("sketch2image", boundary_folder.Config(root="data/bsds500", reading="bits"), "drawing", "image")
