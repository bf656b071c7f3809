"""The pictures of any two data sets as fields "a" and "b" that do not pair up, such as day and night of two embedded worlds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field as Setting
from pydantic import SerializeAsAny

from pixelwise.config import Choice
from pixelwise.data.dataset import DataConfig, Dataset
from pixelwise.data.unpaired import Order, Unpaired

Side = Annotated[SerializeAsAny[DataConfig], Choice("pixelwise.data.datasets")]


class Config(DataConfig):
    """A field of one data set, and a field of the same or another one."""

    kind: Literal["unpaired"] = "unpaired"
    a: Side = Setting(description="where the A pictures come from")
    b: Side = Setting(description="where the B pictures come from")
    a_field: Annotated[str, Setting(description="which field of the first is the picture")] = "image"
    b_field: Annotated[str, Setting(description="which field of the second is the picture")] = "image"
    truth: Annotated[str | None, Setting(description="the field of the first that shows its true B, to measure with")] = None
    order: Order = "random"

    def open(self, split: str) -> Dataset:
        """Return the pictures of `split` of both.

        Raises:
            DataError: One cannot be opened, or has no such field.
        """
        a, b = (side.model_copy(update={"on_error": self.on_error}).open(split) for side in (self.a, self.b))
        return Unpaired(a, b, (self.a_field, self.b_field), split, self.order, self.truth)
