"""The settings of a sum of losses: how much each term counts; one that counts nothing is not computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator
from torch import Tensor

from pixelwise.config import Config

Weight = Annotated[float, Field(ge=0)]


class LossWeights(Config):
    """Weights of the terms, one setting each, called like its term.

    Attributes:
        parameters: Settings that are no weights but belong to a term.
    """

    parameters: ClassVar[frozenset[str]] = frozenset()

    @property
    def weights(self) -> dict[str, float]:
        """The weights above 0 by term."""
        return {name: weight for name, weight in self if weight and name not in self.parameters}

    @model_validator(mode="after")
    def _any(self) -> Self:
        if not self.weights:
            some = next(name for name in type(self).model_fields if name not in self.parameters)
            raise ValueError(f"every weight is 0, so there is nothing to learn: set one above it, such as {some}=1")
        return self

    def weighted(self, terms: Mapping[str, Callable[[], Tensor]]) -> dict[str, Tensor]:
        """Return every term with a weight above 0, times that weight."""
        return {name: weight * terms[name]() for name, weight in self.weights.items()}
