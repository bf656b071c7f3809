"""What all tasks with two players share: the settings of the game, and what each player minimises in it.

A discriminator that also sees what was translated plays equation 1 of Isola et al. 2017, without it their equation 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, SerializeAsAny, model_validator
from torch import Tensor, nn

from pixelwise.config import Choice
from pixelwise.errors import UsageError
from pixelwise.losses.adversarial import Kind, Logits, discriminator_loss, generator_loss, gradient_penalty, r1
from pixelwise.losses.differentiable_augmentation import Change, Draw, augmented, drawn
from pixelwise.losses.feature_matching import feature_matching_loss
from pixelwise.nn.image_pool import ImagePool
from pixelwise.nn.network import NetworkConfig
from pixelwise.nn.networks import patchgan
from pixelwise.nn.noise import answer_with_dropout, dropouts
from pixelwise.nn.together import together
from pixelwise.recipe import TaskConfig


class AdversarialConfig(TaskConfig):
    """Settings of a task with two players."""

    unmatched: ClassVar[str] = ""
    """Why there is no true picture that a painted one should be like; empty where there is."""
    adversarial: Kind = Field(
        default="vanilla", description="what the two players minimise; wasserstein wants gradient_penalty"
    )
    discriminator: Annotated[SerializeAsAny[NetworkConfig], Choice("pixelwise.nn.networks")] = Field(
        default=patchgan.Config(), description="the network that judges"
    )
    halved: bool = Field(
        default=True,
        description="half the discriminator's loss, which slows it (paper, PyTorch code); the Torch code does not; "
        "wasserstein never is",
    )
    gradient_penalty: float = Field(
        default=0.0, ge=0, description="weight of (|gradient| - 1)^2 between real and painted pictures (published: 10); 0: none"
    )
    r1: float = Field(default=0.0, ge=0, description="weight of |gradient|^2 / 2 at real pictures (published: 10); 0: none")
    feature_matching: float = Field(
        default=0.0, ge=0, description="weight of looking, inside the discriminator, like the real picture (pix2pixHD: 10)"
    )
    pool: int = Field(default=0, ge=0, description="earlier pictures that a discriminator may be shown again; 0: none")
    augmentation: tuple[Change, ...] = Field(
        default=(),
        description="DiffAugment, for few pictures: what is changed at random in all that the discriminator sees, such as "
        "colour,translation,cutout; []: nothing",
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.adversarial == "wasserstein" and not self.gradient_penalty:
            raise ValueError("adversarial = 'wasserstein' has no bound by itself: set gradient_penalty=10, as published")
        penalised = next((name for name in ("gradient_penalty", "r1") if getattr(self, name)), None)
        if penalised and getattr(self.discriminator, "norm", None) == "batch":
            what = f"{penalised} wants a verdict on each picture by itself, and batch norm mixes them"
            raise ValueError(f"{what}: set discriminator.norm=instance or none")
        if self.feature_matching and self.unmatched:
            raise ValueError(f"feature_matching = {self.feature_matching:g}, but {self.unmatched}: leave it at 0")
        if self.feature_matching and self.discriminator.kind != "patchgan":
            raise ValueError("feature_matching looks inside a discriminator of kind patchgan only")
        return self

    @property
    def second_order(self) -> bool:
        """Whether a penalty of the discriminator's gradient is on."""
        return any(getattr(self, name) and name not in self.idle() for name in ("gradient_penalty", "r1"))

    def idle(self) -> dict[str, str]:
        """Return the settings that change nothing beside the others, each with the reason."""
        return {"halved": "the wasserstein loss never is"} if self.adversarial == "wasserstein" else {}


class TranslationConfig(AdversarialConfig):
    """Settings of a task whose generators translate pictures."""

    answering: ClassVar[tuple[str, ...]] = ("noise", "noise_seed")
    noise: Literal["none", "dropout"] = Field(
        default="none", description="whether an answer repeats, or dropout stays on as in the published test"
    )
    noise_seed: int = Field(default=0, ge=0, description="which dropout, alike for every picture, with noise=dropout")

    def idle(self) -> dict[str, str]:
        """Return the settings that change nothing beside the others, each with the reason."""
        return super().idle() | ({} if self.noise == "dropout" else {"noise_seed": "task.noise = 'none' draws nothing"})


def caught(
    config: AdversarialConfig,
    judge: nn.Module,
    pool: nn.Module | None,
    real: Tensor,
    fake: Tensor,
    condition: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return what the discriminator minimises: `discriminator` and, where they are on, `gradient_penalty` and `r1`.

    Under `augmentation` real and painted pictures are changed by the same draws; the condition moves as its picture does and
    keeps its colours, all in the precision of the real picture, or rounding would tell which is painted. Penalties are taken in
    float32, of this step's pictures.

    Args:
        config: The settings.
        judge: The discriminator.
        pool: The `ImagePool` that may show it earlier pictures; None: this step's.
        real: (B, C, H, W).
        fake: The same, painted, of any floating type; detached here.
        condition: What was translated, (B, D, H, W), where the discriminator sees it too.
    """
    fake, change = fake.detach().to(real.dtype), Changed(config, real)
    shown = _beside(condition, fake)
    if pool is not None:
        assert isinstance(pool, ImagePool)
        shown = pool.exchange(shown)
    real_logits, fake_logits = together(judge, change(_beside(condition, real)), change(shown))
    losses = {"discriminator": discriminator_loss(real_logits, fake_logits, config.adversarial, config.halved)}

    def verdict(images: Tensor) -> Logits:
        logits: Logits = judge(change(_beside(condition, images)))
        return logits

    with torch.autocast(real.device.type, enabled=False):
        if config.gradient_penalty:
            losses["gradient_penalty"] = config.gradient_penalty * gradient_penalty(verdict, real, fake)
        if config.r1:
            losses["r1"] = config.r1 * r1(verdict, real)
    return losses


def deceived(
    config: AdversarialConfig, judge: nn.Module, real: Tensor, fake: Tensor, condition: Tensor | None = None
) -> dict[str, Tensor]:
    """Return what the generator minimises because of the discriminator: `adversarial` and, where it is on, `feature_matching`.

    Args:
        config: The settings.
        judge: The discriminator.
        real: (B, C, H, W), looked at for feature matching only.
        fake: The same, painted.
        condition: As for `caught`.
    """
    change = Changed(config, real)
    shown = change(_beside(condition, fake.to(real.dtype)))
    if not config.feature_matching:
        return {"adversarial": generator_loss(judge(shown), config.adversarial)}
    with torch.no_grad():
        wanted = _scales(judge(change(_beside(condition, real)), every=True))
    found = _scales(judge(shown, every=True))
    inside = feature_matching_loss([maps[:-1] for maps in wanted], [maps[:-1] for maps in found])
    return {
        "adversarial": generator_loss([maps[-1] for maps in found], config.adversarial),
        "feature_matching": config.feature_matching * inside,
    }


def answered(config: TranslationConfig, network: nn.Module, pictures: Tensor) -> Tensor:
    """Return a generator's answer as `config.noise` says."""
    if config.noise == "dropout":
        return answer_with_dropout(network, pictures, config.noise_seed)
    answer: Tensor = network(pictures)
    return answer


def apart(config: TranslationConfig) -> str:
    """Return why tiles, each answered by itself, are not the whole picture: dropout draws in every tile anew."""
    return "task.noise = 'dropout' draws for every tile anew" if config.noise == "dropout" else ""


def require_noise(config: TranslationConfig, generators: Mapping[str, nn.Module]) -> None:
    """Raise a UsageError if dropout shall be the noise and a generator has none."""
    if config.noise == "dropout" and not all(map(dropouts, generators.values())):
        raise UsageError("task.noise = 'dropout', but the network has none", "train with network.dropout=0.5")


class Changed:
    """DiffAugment with one draw: of a picture (B, C, H, W), or of a condition and the picture behind it."""

    def __init__(self, config: AdversarialConfig, like: Tensor) -> None:
        self.policy, self.channels = config.augmentation, like.shape[1]
        self.draw: Draw | None = drawn(len(like), like.device) if self.policy else None

    def __call__(self, shown: Tensor) -> Tensor:
        """Return what the discriminator sees of it."""
        if self.draw is None:
            return shown
        condition, images = shown[:, : -self.channels], augmented(shown[:, -self.channels :], self.policy, self.draw)
        moves = [change for change in self.policy if change != "colour"]
        return torch.cat([augmented(condition, moves, self.draw), images], 1) if condition.shape[1] else images


def _beside(condition: Tensor | None, images: Tensor) -> Tensor:
    return images if condition is None else torch.cat([condition, images], 1)


def _scales(maps: list[Tensor] | list[list[Tensor]]) -> list[list[Tensor]]:
    """Return the maps of each of several discriminators, or of the one there is."""
    return [one for one in maps if isinstance(one, list)] or [[one for one in maps if isinstance(one, Tensor)]]
