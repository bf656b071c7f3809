"""Settings: frozen, validated, overridable by `key=value`, and chosen by `kind` among the files of a folder."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import typing
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from pixelwise.errors import UsageError, did_you_mean
from pixelwise.overrides import parse_value, split_override


class Config(BaseModel):
    """Base of everything that can be set: unknown keys are refused, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)

    @classmethod
    def checked(cls, data: Any) -> Self:
        """Validate `data`, listing everything that is wrong in the words of the command line."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise UsageError("\n       ".join(_explain(e) for e in error.errors())) from None


@lru_cache
def kinds(package: str) -> tuple[str, ...]:
    """Return the kinds on offer in `package`: the names of its public files."""
    found = importlib.util.find_spec(package)
    paths = found.submodule_search_locations if found else None
    return tuple(sorted(m.name for m in pkgutil.iter_modules(paths or ()) if not m.name.startswith("_")))


def config_class(package: str, kind: str) -> type[Config]:
    """Return the `Config` of `package.kind`; only files of the package can be named, so a hostile file runs nothing.

    Raises:
        UsageError: No such kind, or its file lacks the class.
    """
    if kind not in kinds(package):
        what = package.rpartition(".")[2]
        raise UsageError(f"no {kind!r} among {what}: {', '.join(kinds(package))}", did_you_mean(kind, kinds(package)))
    found = getattr(importlib.import_module(f"{package}.{kind}"), "Config", None)
    if not (isinstance(found, type) and issubclass(found, Config)):
        raise UsageError(f"{package}.{kind} has no class Config", "a file there holds its settings as a class Config(...)")
    return found


class Choice:
    """Marks a setting whose value is the Config of one file of `package`, named by its `kind`.

    For example `network: Annotated[SerializeAsAny[NetworkConfig], Choice("pixelwise.nn.networks")]`.
    """

    def __init__(self, package: str) -> None:
        self.package = package

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Resolve the kind before pydantic checks the value."""
        return core_schema.no_info_before_validator_function(self.resolve, handler(source))

    def resolve(self, value: Any) -> Any:
        """Turn `{"kind": ..., ...}` or a bare kind into the Config of that kind."""
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, dict):
            return value
        if "kind" not in value:
            raise ValueError(f"kind is missing; one of {', '.join(kinds(self.package))}")
        try:
            return config_class(self.package, str(value["kind"])).model_validate(value)
        except UsageError as error:
            raise ValueError("; ".join(filter(None, (str(error), error.hint)))) from None


class Choices(Choice):
    """Marks a dictionary whose values are such Configs, each under a name of its own."""

    def resolve(self, value: Any) -> Any:
        """Turn every `{"kind": ..., ...}` or bare kind into the Config of that kind."""
        return {name: super(Choices, self).resolve(one) for name, one in value.items()} if isinstance(value, dict) else value


def choice_of(field: FieldInfo) -> Choice | None:
    """Return the Choice that marks `field`, if one does."""
    return next((m for m in field.metadata if isinstance(m, Choice)), None)


class Setting(BaseModel):
    """One setting as `pixelwise describe` and the command line's checks see it."""

    key: str
    default: Any
    description: str
    schemas: list[dict[str, Any]]


def settings(config: Config, prefix: str = "") -> Iterator[Setting]:
    """Yield every setting of `config`, depth first, with its current value and JSON schema."""
    schema = type(config).model_json_schema()
    for name, field in type(config).model_fields.items():
        value, key = getattr(config, name), prefix + name
        chosen, description = choice_of(field), field.description or ""
        if isinstance(chosen, Choices):
            default = config.model_dump(mode="json")[name]
            yield Setting(key=key, default=default, description=description, schemas=[{"type": "object"}])
            for each, one in value.items():
                yield from _chosen(chosen, one, f"{key}.{each}", f"what {each!r} is")
        elif chosen:
            optional = type(None) in typing.get_args(field.annotation)
            yield from _chosen(chosen, value, key, description, optional)
        elif isinstance(value, Config):
            yield from settings(value, key + ".")
        else:
            default = config.model_dump(mode="json")[name]
            yield Setting(key=key, default=default, description=field.description or "", schemas=[_plain(schema, name)])


def _chosen(choice: Choice, value: Any, key: str, description: str, optional: bool = False) -> Iterator[Setting]:
    schemas = [{"enum": [*kinds(choice.package), *([None] if optional else [])]}]
    yield Setting(key=f"{key}.kind", default=getattr(value, "kind", None), description=description, schemas=schemas)
    if value is None:
        return
    yield from (s for s in settings(value, f"{key}.") if s.key != f"{key}.kind")


def _plain(schema: dict[str, Any], name: str) -> dict[str, Any]:
    found = dict(schema["properties"][name])
    return {k: v for k, v in found.items() if k not in ("title", "description", "default")}


class Overridable(Config):
    """A Config that can be overridden by `key=value` pairs."""

    def override(self, pairs: Sequence[str]) -> Self:
        """Return a copy with `key=value` pairs applied; a new `kind` starts from that kind's defaults.

        Raises:
            UsageError: An unknown key or an invalid value; all invalid values are listed.
        """
        data = self.model_dump(mode="json")
        # Outer before inner, and a kind before the settings that it brings.
        split = [split_override(pair) for pair in pairs]
        for key, value in sorted(split, key=lambda pair: pair[0].removesuffix(".kind").count(".")):
            if not _assign(type(self), data, key.split("."), value):
                raise self._with(data).unknown(key)
        return self.checked(data)

    def _with(self, data: dict[str, Any]) -> Self:
        """Return the settings of `data`, whose kinds may be new, or these if they are not valid."""
        try:
            return self.checked(data)
        except UsageError:
            return self

    def unknown(self, key: str) -> UsageError:
        """Return the error for a setting that does not exist."""
        known = [s.key for s in settings(self)]
        beside = [other for other in known if other.startswith(key.rpartition(".")[0] + ".")] or known
        return UsageError(f"unknown setting {key!r}", did_you_mean(key, known) or "settings: " + ", ".join(beside))


def _assign(config: Any, data: dict[str, Any], path: Sequence[str], text: str) -> bool:
    """Set what `path` names in `data`, the JSON of a `config`, and tell whether there is such a setting."""
    name, *rest = path
    field = getattr(config, "model_fields", {}).get(name)
    if field is None:
        return False
    chosen, inner = choice_of(field), data.get(name)
    if chosen and not isinstance(chosen, Choices):
        return _choose(chosen, data, path, text)
    if rest and chosen:
        return isinstance(inner, dict) and _choose(chosen, inner, rest, text)
    if rest and typing.get_origin(field.annotation) is dict:
        data[name] = {**inner, ".".join(rest): parse_value(text, typing.get_args(field.annotation)[1])}  # type: ignore[dict-item]
        return True
    if rest:
        return isinstance(inner, dict) and _assign(field.annotation, inner, rest, text)
    data[name] = parse_value(text, field.annotation)
    return True


def _choose(chosen: Choice, data: dict[str, Any], path: Sequence[str], text: str) -> bool:
    """Set the kind of what `path` names in `data`, which starts it anew, or a setting of its kind; null leaves it out."""
    name, *rest = path
    inner = data.get(name)
    if text == "null" and (not rest or (inner is None and rest == ["kind"])):
        return data.pop(name, False) is not False
    kind = inner.get("kind") if isinstance(inner, dict) else None
    if rest not in ([], ["kind"]):
        return kind is not None and _assign(config_class(chosen.package, str(kind)), inner or {}, rest, text)
    if kind != text:
        data[name] = config_class(chosen.package, text).model_construct().model_dump(mode="json")
    return True


def _explain(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown setting {key!r}"
    message = str(error["msg"].removeprefix("Value error, "))
    if not key:
        return message
    # several settings together are wrong: the message names them, the whole dictionary would hide it
    return f"{key}: {message}" if isinstance(error["input"], dict) else f"{key} = {error['input']!r}: {message}"
