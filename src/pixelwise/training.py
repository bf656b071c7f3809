"""How a run is trained: the settings of the engine, kept apart from it so that a recipe is read without torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pixelwise.config import Config

Decay = Annotated[float, Field(ge=0, lt=1)]


class Optimizer(Config):
    """How gradients become updates; every phase has its own optimizer with these settings."""

    kind: Literal["adam", "adamw", "sgd"] = Field(default="adam", description="adam, adamw (decoupled weight decay) or sgd")
    lr: float = Field(default=2e-4, gt=0, description="peak learning rate; the schedule multiplies it by 0 to 1")
    betas: tuple[Decay, Decay] = Field(default=(0.9, 0.999), description="decay of Adam's two moments (0.5, 0.999 for GANs)")
    weight_decay: float = Field(default=0.0, ge=0, description="L2 penalty for adam and sgd; decoupled shrinkage for adamw")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="momentum of sgd; Adam takes betas instead")


class Schedule(Config):
    """How the learning rate changes over the steps of a run."""

    kind: Literal["constant", "linear", "cosine"] = Field(default="constant", description="shape of the decay to zero, if any")
    warmup_steps: int = Field(default=0, ge=0, description="steps over which the learning rate first rises linearly")
    hold: float = Field(default=0.0, ge=0, le=1, description="fraction of all steps at the peak rate before the decay begins")


class Training(Config):
    """The loop: how long, how much at once, how exact, and what is kept."""

    steps: int = Field(default=1000, ge=1, description="optimizer steps of the whole run")
    batch_size: int = Field(default=8, ge=1, description="samples per step, over all processes together")
    seed: int = Field(default=0, ge=0, description="seed of initialisation, order, augmentation and dropout")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="bfloat16 mixes it in by autocast; auto does so where the hardware multiplies bfloat16",
    )
    accumulate: int = Field(default=1, ge=1, description="split each batch into so many micro-batches to save memory")
    clip_norm: float | None = Field(
        default=None, gt=0, description="scale each phase's gradient down to this norm; null: never"
    )
    ema: float = Field(default=0.0, ge=0, lt=1, description="decay of the averaged weights that are deployed; 0: no average")
    compile: bool = Field(default=False, description="torch.compile the networks (slower than not, on a CPU)")
    workers: int = Field(default=0, ge=0, description="processes that load data; 0: the training process itself")
    evaluate_every: int = Field(default=500, ge=1, description="steps between evaluations; the last step is always evaluated")
    pictures_every: int = Field(
        default=0, ge=0, description="steps between pictures of the same validation samples, for the report; 0: none"
    )
    checkpoint_every: int = Field(default=500, ge=1, description="steps between saved states; the last step is always saved")
    keep: int = Field(default=2, ge=1, description="how many of the newest states to keep, beside the best")
    deterministic: bool = Field(default=True, description="use bit-reproducible operations where torch has them")
    strategy: Literal["auto", "none", "ddp", "fsdp"] = Field(
        default="auto", description="many processes under torchrun: copies (ddp, the default there) or shards (fsdp)"
    )
    threads: int | None = Field(default=None, ge=1, description="threads of each process; the bits of a run depend on it")
    tensorboard: bool = Field(default=False, description="also write TensorBoard events (needs the extra `log`)")

    @model_validator(mode="after")
    def _even_split(self) -> Self:
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} cannot be split into {self.accumulate} equal micro-batches")
        return self
