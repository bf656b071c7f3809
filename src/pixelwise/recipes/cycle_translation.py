"""Two sets of pictures that do not pair up: recipes of unpaired translation."""

from __future__ import annotations

from pixelwise.data.augment import Augment, View
from pixelwise.data.datasets import unpaired, unpaired_folder, world
from pixelwise.nn.networks import patchgan, residual
from pixelwise.recipe import Recipe, recipe
from pixelwise.tasks.cycle_translation import Config
from pixelwise.training import Optimizer, Schedule


@recipe
def world_day2night() -> Recipe:
    """Streets of the embedded world by day to others by night and back, 64 x 64, unpaired, with small networks.

    The night of every street is known, and measured with; training never sees it. Not measured yet.
    """
    return Recipe(
        name="world_day2night",
        task=Config(discriminator=patchgan.Config(width=32, layers=2, norm="instance"), truth=True),
        data=unpaired.Config(a=world.Config(scenes=384), b=world.Config(scenes=384, seed=1), b_field="night", truth="night"),
        view=View(size=(64, 64)),
        augment=Augment(flip=0.5),
        network=residual.Config(width=24, blocks=3, activation="tanh"),
        optimizer=Optimizer(kind="adam", lr=2e-4, betas=(0.5, 0.999)),
        schedule=Schedule(kind="linear", hold=0.5),
        steps=3000,
        batch_size=4,
        evaluate_every=500,
        pictures_every=300,
    )


@recipe
def cycle_translation() -> Recipe:
    """Your own two folders of pictures: data.root=FOLDER with trainA and trainB; CycleGAN as published at 256 x 256.

    A start, not a result: the published length is 200 epochs, for a GPU: a step takes 19 s of one core. Not measured yet.
    """
    return Recipe(
        name="cycle_translation",
        task=Config(),
        data=unpaired_folder.Config(root="data/cycle_translation"),
        view=View(size=(256, 256), load_size=(286, 286)),
        augment=Augment(flip=0.5),
        network=residual.Config(activation="tanh"),
        optimizer=Optimizer(kind="adam", lr=2e-4, betas=(0.5, 0.999)),
        schedule=Schedule(kind="linear", hold=0.5),
        steps=40000,
        batch_size=1,
        evaluate_every=4000,
        pictures_every=4000,
        checkpoint_every=4000,
    )


@recipe
def cyclegan_pytorch() -> Recipe:
    """CycleGAN as pytorch-CycleGAN-and-pix2pix trains it: data.root=FOLDER with trainA and trainB; steps=200 x pictures.

    Least squares, cycle 10, identity 5, pools of 50, batch 1, 286 to 256 pixels, flips, weights from N(0, 0.02), instance norm,
    which needs no statistics at test, Adam 2e-4 with betas 0.5 and 0.999, half the steps flat and half linearly to 0, float32.
    What differs: the learning rate falls at every step and reaches 0, theirs at every epoch of 101; data is drawn by the seed.
    A step from equal weights is equal (tests/test_cycle_translation.py). For a GPU; 200000 steps are 1000 pictures' worth.
    """
    long = {"steps": 200000, "evaluate_every": 20000, "pictures_every": 20000}
    return cycle_translation().model_copy(update={"name": "cyclegan_pytorch", "precision": "float32", **long})


def _between(name: str, folder: str, a: str, b: str) -> Recipe:
    data = unpaired_folder.Config(root=f"data/{folder}", a=a, b=b)
    return cycle_translation().model_copy(update={"name": name, "data": data})


@recipe
def day_night_unpaired() -> Recipe:
    """Webcams by day to webcams by night and back: folders day and night in data.root; CycleGAN as published at 256 x 256.

    For a GPU: a step takes 19 s of one core in float32. Not measured yet.
    """
    return _between("day_night_unpaired", "day_night", "day", "night")


@recipe
def cat_dog() -> Recipe:
    """Cats to dogs and back: folders cats and dogs in data.root; CycleGAN as published at 256 x 256.

    Shapes have to change, which the cycle resists. For a GPU: a step takes 19 s of one core in float32. Not measured yet.
    """
    return _between("cat_dog", "cats_dogs", "cats", "dogs")


@recipe
def visible_infrared() -> Recipe:
    """Roads in visible light to infrared and back: train/visible and train/infrared in data.root; CycleGAN as published.

    For a GPU: a step takes 19 s of one core in float32. Not measured at 256 x 256; 200 steps at 64 x 64
    teach nothing yet (docs/translation.md).
    """
    return _between("visible_infrared", "roadscene_thermal", "visible", "infrared")
