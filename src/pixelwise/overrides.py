"""The `key=value` words of the command line, read alike by the quick checks and by the full validation."""

from __future__ import annotations

import json
import re
import typing
from collections.abc import Sequence
from typing import Any

from pixelwise.errors import UsageError, did_you_mean


def split_override(pair: str) -> tuple[str, str]:
    """Split `key=value`.

    Raises:
        UsageError: There is no `=` in it.
    """
    key, equals, value = pair.partition("=")
    if not equals or not key:
        raise UsageError(f"expected key=value, got {pair!r}", "for example steps=500")
    return key, value


UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_bytes(text: str) -> int:
    """Read an amount of memory such as 4GiB, 1.5GB, 300MB or 2000000000, whatever the case of its letters.

    Raises:
        UsageError: It is none, or not positive.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([a-z]*)", text.strip().lower())
    size = int(float(found[1]) * UNITS.get(found[2], 0)) if found else 0
    if size < 1:
        raise UsageError(f"memory = {text!r}: should be an amount of memory", "for example memory=4GiB or memory=500MB")
    return size


def parse_size(text: str) -> tuple[int, int]:
    """Read a size in pixels, HEIGHTxWIDTH.

    Raises:
        UsageError: It is none.
    """
    value = parse_value(text)
    if isinstance(value, list) and len(value) == 2 and all(isinstance(side, int) and side > 0 for side in value):
        return value[0], value[1]
    raise UsageError(f"size = {text!r}: should be HEIGHTxWIDTH in pixels", "for example size=256x256")


def parse_value(text: str, wanted: object = None) -> Any:
    """Read the right side of `key=value`: JSON where it is JSON, `HxW` as a size, else the text itself.

    Where `wanted` is `str` the text stays a text, so that a folder may be called 2024. Where it is a tuple, or may be one,
    `a,b` is a list of what the tuple holds; where the tuple is of any length, so is `a` alone.
    """
    try:
        value = json.loads(text)
    except ValueError:
        height, x, width = text.partition("x")
        value = [int(height), int(width)] if x and height.isdecimal() and width.isdecimal() else text
    if wanted is str and not isinstance(value, str):
        return text
    listed = next((kind for kind in (wanted, *typing.get_args(wanted)) if typing.get_origin(kind) is tuple), None)
    if listed and not text.startswith("["):
        return _listed(text, value, typing.get_args(listed), typing.get_origin(wanted) is tuple)
    return value


def _listed(text: str, value: Any, held: tuple[Any, ...], only: bool) -> Any:
    """Read `a,b` as a list; `a` alone too where it can `only` be a list, and one of any length."""
    if "," not in text and (not only or held[-1] is not Ellipsis or (isinstance(value, list) and held[0] is not str)):
        return value
    parts = text.split(",")
    kinds = held[:1] * len(parts) if held[-1] is Ellipsis else (*held, *[None] * len(parts))
    return [parse_value(part, kind) for part, kind in zip(parts, kinds, strict=False)]


def options(pairs: Sequence[str], allowed: dict[str, type]) -> tuple[dict[str, Any], list[str]]:
    """Take a verb's own options out of the pairs; what is left are settings.

    Args:
        pairs: `key=value` each.
        allowed: The options: `int` for a positive number, `str` for a text that is not empty.

    Raises:
        UsageError: The value of an option means nothing.
    """
    taken: dict[str, Any] = {}
    left = []
    for pair in pairs:
        key, text = split_override(pair)
        if key not in allowed:
            left.append(pair)
            continue
        number = allowed[key] is int
        value = parse_value(text) if number else text
        if (type(value) is not int or value < 1) if number else not text:
            wanted, example = ("positive integer", 10) if number else ("name", "NAME")
            raise UsageError(f"{key} = {text!r}: should be a {wanted}", f"for example {key}={example}")
        taken[key] = value
    return taken, left


def choice(key: str, taken: dict[str, Any], choices: Sequence[str]) -> Any:
    """Return the one of `choices` that was taken for `key`, by default the first.

    Raises:
        UsageError: It is none of them.
    """
    value = taken.get(key, choices[0])
    if value not in choices:
        raise UsageError(
            f"{key} = {value!r}: should be one of {', '.join(choices)}",
            did_you_mean(value, choices) or f"such as {key}={choices[0]}",
        )
    return value
