"""What the two players of a generative adversarial network minimise, given the discriminator's raw outputs.

`minimax`: equation 1 of Goodfellow et al. 2014 for both. `vanilla`: the same for the discriminator, with their non-saturating
generator loss. `lsgan`: Mao et al. 2017 with labels 0 and 1. `hinge`: Lim and Ye 2017. `wasserstein`: Arjovsky et al. 2017,
which needs `gradient_penalty`. All means are over every element, that is over the patches of a PatchGAN too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Kind = Literal["vanilla", "minimax", "lsgan", "hinge", "wasserstein"]
Logits = Tensor | Sequence[Tensor]
"""Before the sigmoid, of any shape; several tensors are those of several discriminators, whose losses are added."""


def discriminator_loss(real_logits: Logits, fake_logits: Logits, kind: Kind = "vanilla", halved: bool = True) -> Tensor:
    """Return the sum of the losses on real and on generated images, or half of it.

    Args:
        real_logits: Of real images.
        fake_logits: Of generated images, which the caller has detached.
        kind: vanilla and minimax: softplus(-r) + softplus(f); lsgan: (r - 1)^2 + f^2; hinge: max(0, 1 - r) + max(0, 1 + f);
            wasserstein: f - r.
        halved: Slow the discriminator relative to the generator, as in Isola et al. 2017, section 3.3, and in the PyTorch
            pix2pix; their Torch code only halves what it prints. `wasserstein` never is halved: the weight 10 of its penalty
            belongs to the whole.
    """
    share = 0.5 if halved and kind != "wasserstein" else 1.0
    pairs = zip(_tensors(real_logits), _tensors(fake_logits), strict=True)
    return torch.stack([share * (_real(real, kind).mean() + _fake(fake, kind).mean()) for real, fake in pairs]).sum()


def generator_loss(fake_logits: Logits, kind: Kind = "vanilla") -> Tensor:
    """Return how far the discriminator is from taking generated images for real.

    Args:
        fake_logits: Of generated images.
        kind: vanilla: softplus(-f), non-saturating; minimax: -softplus(f), whose gradient vanishes where the discriminator
            is sure; lsgan: (f - 1)^2; hinge and wasserstein: -f.
    """
    return torch.stack([_deceived(fake, kind).mean() for fake in _tensors(fake_logits)]).sum()


def _real(logits: Tensor, kind: Kind) -> Tensor:
    if kind in ("vanilla", "minimax"):
        return functional.softplus(-logits)
    if kind == "lsgan":
        return (logits - 1).square()
    return functional.relu(1 - logits) if kind == "hinge" else -logits


def _fake(logits: Tensor, kind: Kind) -> Tensor:
    if kind in ("vanilla", "minimax"):
        return functional.softplus(logits)
    if kind == "lsgan":
        return logits.square()
    return functional.relu(1 + logits) if kind == "hinge" else logits


def _deceived(logits: Tensor, kind: Kind) -> Tensor:
    if kind == "vanilla":
        return functional.softplus(-logits)
    if kind == "minimax":
        return -functional.softplus(logits)
    return (logits - 1).square() if kind == "lsgan" else -logits


def gradient_penalty(
    discriminator: Callable[[Tensor], Logits], real: Tensor, fake: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Return the mean of (|gradient| - 1)^2 at pictures between real and generated ones; its published weight is 10.

    Equation 3 of Gulrajani et al. 2017. It can be differentiated by the discriminator's weights. Norms over the batch would let
    a picture's value depend on other pictures: give such a discriminator instance norm or none (their section 4).

    Args:
        discriminator: (B, C, H, W) -> logits (B, ...); a conditional one with its condition filled in. A picture's value is the
            mean of its patches, as in the losses, and with several discriminators the sum of theirs.
        real: (B, C, H, W).
        fake: The same of generated pictures, which need not be detached.
        generator: Draws from [0, 1) where each picture lies between the two; torch's global generator if None.
    """
    share = torch.rand(len(real), 1, 1, 1, generator=generator, device=real.device, dtype=real.dtype)
    slopes = _slopes(discriminator, share * real.detach() + (1 - share) * fake.detach())
    penalty: Tensor = (torch.linalg.vector_norm(slopes, dim=1) - 1).square().mean()
    return penalty


def r1(discriminator: Callable[[Tensor], Logits], real: Tensor) -> Tensor:
    """Return half the mean of |gradient|^2 at real pictures, to be multiplied by the paper's gamma (10).

    Equation 9 of Mescheder, Geiger and Nowozin 2018. It can be differentiated by the discriminator's weights.

    Args:
        discriminator: As for `gradient_penalty`.
        real: (B, C, H, W).
    """
    return _slopes(discriminator, real.detach()).square().sum(1).mean() / 2


def _slopes(discriminator: Callable[[Tensor], Logits], images: Tensor) -> Tensor:
    """Return (B, values): the gradient of each picture's value by its own pixels."""
    with torch.enable_grad():
        images = images.requires_grad_()
        values = sum(logits.reshape(len(logits), -1).mean(1) for logits in _tensors(discriminator(images)))
        assert isinstance(values, Tensor)
        (slopes,) = torch.autograd.grad(values.sum(), images, create_graph=True)
    return slopes.flatten(1).to(torch.promote_types(slopes.dtype, torch.float32))


def _tensors(logits: Logits) -> list[Tensor]:
    """Return the logits of each discriminator, in float32 at least."""
    several = [logits] if isinstance(logits, Tensor) else logits
    return [one.to(torch.promote_types(one.dtype, torch.float32)) for one in several]
