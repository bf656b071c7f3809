"""What the two players of a generative adversarial network minimise, given the discriminator's raw outputs.

`vanilla`: Goodfellow et al. 2014 with the non-saturating generator loss. `lsgan`: Mao et al. 2017 with labels 0 and 1.
`hinge`: Lim and Ye 2017. All means are over every element, that is over the patches of a PatchGAN too.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

Kind = Literal["vanilla", "lsgan", "hinge"]


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, kind: Kind = "vanilla") -> Tensor:
    """Return half the sum of the losses on real and on generated images.

    The half slows the discriminator relative to the generator, as in Isola et al. 2017, section 3.3, and in the PyTorch
    pix2pix (their Torch code only halves what it prints).

    Args:
        real_logits: Any shape, before the sigmoid.
        fake_logits: The same of generated images, which the caller has detached.
        kind: vanilla: softplus(-r) + softplus(f); lsgan: (r - 1)^2 + f^2; hinge: max(0, 1 - r) + max(0, 1 + f).
    """
    if kind == "vanilla":
        real, fake = functional.softplus(-real_logits), functional.softplus(fake_logits)
    elif kind == "lsgan":
        real, fake = (real_logits - 1).square(), fake_logits.square()
    else:
        real, fake = functional.relu(1 - real_logits), functional.relu(1 + fake_logits)
    return (real.mean() + fake.mean()) / 2


def generator_loss(fake_logits: Tensor, kind: Kind = "vanilla") -> Tensor:
    """Return how far the discriminator is from taking generated images for real.

    Args:
        fake_logits: Any shape, before the sigmoid.
        kind: vanilla: softplus(-f), non-saturating; lsgan: (f - 1)^2; hinge: -f.
    """
    if kind == "vanilla":
        return functional.softplus(-fake_logits).mean()
    if kind == "lsgan":
        return (fake_logits - 1).square().mean()
    return -fake_logits.mean()
