"""Settings: kinds come from files and from nowhere else, overrides do what they say, and every mistake is named."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, SerializeAsAny, ValidationError

from pixelwise.config import Choice, Choices, Config, Overridable, choice_of, config_class, kinds, settings
from pixelwise.errors import UsageError, did_you_mean
from pixelwise.overrides import parse_value, split_override

UNET = """
from typing import Annotated, Literal
from pydantic import Field, SerializeAsAny
from pixelwise.config import Choice, Config
class Head(Config):
    bias: bool = True
class Config(Config):
    kind: Literal["unet"] = "unet"
    width: int = Field(default=64, gt=0, description="channels of the first level")
    depth: int = 4
    head: Head = Head()
"""
GAN = """
from typing import Annotated, Literal
from pydantic import SerializeAsAny
from kinds_for_tests import fcn
from pixelwise.config import Choice, Config
class Config(Config):
    kind: Literal["gan"] = "gan"
    noise: int = 8
    discriminator: Annotated[SerializeAsAny[Config], Choice("kinds_for_tests")] = fcn.Config()
"""
FCN = """
from typing import Literal
from pixelwise.config import Config
class Config(Config):
    kind: Literal["fcn"] = "fcn"
    stride: int
"""
DEFAULT_FCN = FCN.replace("stride: int", "stride: int = 8")


class Optimizer(Config):
    kind: Literal["adam", "sgd"] = "adam"
    lr: float = Field(default=1e-3, gt=0)


class Run(Overridable):
    network: Annotated[SerializeAsAny[Config], Choice("kinds_for_tests")] = Field(
        default="unet",  # type: ignore[assignment]
        validate_default=True,
        description="what is trained",
    )
    optimizer: Optimizer = Optimizer()
    steps: int = Field(default=100, ge=1, description="how long")
    size: tuple[int, int] = (64, 64)
    name: str = "run"


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of kinds: unet, gan and fcn, a private file, and a file that must never be imported."""
    folder = tmp_path / "kinds_for_tests"
    (folder / "inner").mkdir(parents=True)
    files = {"__init__": "", "_private": UNET, "unet": UNET, "gan": GAN, "fcn": DEFAULT_FCN, "inner/trap": "1 / 0"}
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    (tmp_path / "outside.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    kinds.cache_clear()
    yield folder
    kinds.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("kinds_for_tests", "outside")]:
        del sys.modules[name]


def failure(pairs: list[str], run: Run | None = None) -> UsageError:
    with pytest.raises(UsageError) as caught:
        (run or Run()).override(pairs)
    return caught.value


def test_kinds_are_the_public_files() -> None:
    assert kinds("kinds_for_tests") == ("fcn", "gan", "unet")
    assert kinds("no_such_package_for_tests") == ()


def test_config_class_is_that_of_the_file() -> None:
    assert config_class("kinds_for_tests", "unet").__module__ == "kinds_for_tests.unet"


HOSTILE = [
    "../outside",
    "..outside",
    "outside",
    "os",
    "",
    ".",
    "inner.trap",
    "inner/trap",
    "_private",
    "__init__",
    "unet.Head",
    "unet ",
    "UNET",
    "unet\0",
    "kinds_for_tests.unet",
]


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_kinds_name_nothing(kind: str) -> None:
    before = set(sys.modules)
    with pytest.raises(UsageError, match="among kinds_for_tests: fcn, gan, unet"):
        config_class("kinds_for_tests", kind)
    with pytest.raises(ValidationError):
        Run.model_validate({"network": {"kind": kind}})
    failure([f"network.kind={kind}"])
    assert set(sys.modules) - before <= {"kinds_for_tests", "kinds_for_tests.unet"}


@pytest.mark.parametrize("kind", [None, 3, ["unet"], {"kind": "unet"}, True])
def test_a_kind_that_is_no_text_is_refused(kind: Any) -> None:
    with pytest.raises(ValidationError, match="among kinds_for_tests"):
        Run.model_validate({"network": {"kind": kind}})


class Many(Overridable):
    networks: Annotated[dict[str, SerializeAsAny[Config]], Choices("kinds_for_tests")] = Field(
        default={"first": "unet"},  # type: ignore[dict-item]
        description="what is trained together",
    )


def test_named_choices_are_set_one_by_one_and_new_names_are_added() -> None:
    many = Many().override(["networks.first.width=3", "networks.second=gan", "networks.second.noise=2"])
    assert many.model_dump()["networks"]["first"] == {"kind": "unet", "width": 3, "depth": 4, "head": {"bias": True}}
    assert many.model_dump()["networks"]["second"]["noise"] == 2
    assert Many.model_validate_json(many.model_dump_json()) == many
    assert [s.key for s in settings(many)][:3] == ["networks", "networks.first.kind", "networks.first.width"]
    assert many.override(["networks.first.kind=gan"]).model_dump()["networks"]["first"]["kind"] == "gan"


@pytest.mark.parametrize(
    ("pair", "hint"),
    [
        ("networks.first.widht=3", "did you mean 'networks.first.width'?"),
        ("networks.thrid.width=3", "settings: networks"),
        ("networks.first.kind=unett", "did you mean 'unet'?"),
    ],
)
def test_wrong_named_choices_are_usage_errors(pair: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        Many().override([pair])
    assert caught.value.hint.startswith(hint)


def test_unknown_kind_suggests_the_nearest() -> None:
    error = failure(["network.kind=unett"])
    assert "'unett'" in str(error) + error.hint
    assert "did you mean 'unet'?" in str(error) + error.hint


def test_a_choice_takes_a_name_a_dictionary_or_a_config() -> None:
    from_name = Run.model_validate({"network": "gan"})
    from_dictionary = Run.model_validate({"network": {"kind": "gan", "noise": 8}})
    assert from_name == from_dictionary
    assert Run(network=from_name.network) == from_name
    assert type(from_name.network).__module__ == "kinds_for_tests.gan"


def test_a_choice_without_a_kind_lists_the_kinds() -> None:
    with pytest.raises(UsageError, match="kind is missing; one of fcn, gan, unet"):
        Run.checked({"network": {"width": 3}})


@pytest.mark.parametrize("value", [3, None, [], True])
def test_a_choice_refuses_what_is_no_config(value: Any) -> None:
    with pytest.raises(UsageError, match=r"^network = "):
        Run.checked({"network": value})


def test_configs_are_frozen_and_closed() -> None:
    run = Run()
    with pytest.raises(ValidationError, match="frozen"):
        run.steps = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="extra_forbidden"):
        Run(stepz=3)  # type: ignore[call-arg]


def test_saved_and_read_back_equal() -> None:
    run = Run().override(["network.kind=gan", "network.discriminator.kind=unet", "size=3x5"])
    assert Run.model_validate_json(run.model_dump_json()) == run
    assert run.model_dump(mode="json")["network"]["discriminator"]["head"] == {"bias": True}


def test_choice_of_finds_the_mark() -> None:
    found = choice_of(Run.model_fields["network"])
    assert found is not None
    assert found.package == "kinds_for_tests"
    assert choice_of(Run.model_fields["steps"]) is None


def test_override_leaves_the_original_and_the_rest_alone() -> None:
    run = Run()
    changed = run.override(["steps=7", "network.head.bias=false", "name=7x", "size=[3,5]"])
    assert run == Run()
    assert (changed.steps, changed.name, changed.size) == (7, "7x", (3, 5))
    dumped = changed.model_dump()
    assert dumped["network"] == {"kind": "unet", "width": 64, "depth": 4, "head": {"bias": False}}
    assert run.override([]) == run


def test_the_last_of_two_equal_keys_wins() -> None:
    assert Run().override(["steps=3", "steps=4"]).steps == 4


@pytest.mark.parametrize("kind", ["network.kind=gan", "network=gan"])
@pytest.mark.parametrize("kind_first", [True, False])
def test_a_new_kind_starts_from_its_defaults_wherever_it_stands(kind: str, kind_first: bool) -> None:
    pairs = [kind, "network.noise=3", "network.discriminator.stride=2"]
    changed = Run().override(pairs if kind_first else pairs[::-1])
    discriminator = {"kind": "fcn", "stride": 2}
    assert changed.model_dump()["network"] == {"kind": "gan", "noise": 3, "discriminator": discriminator}


@pytest.mark.parametrize("pairs", [["network.kind=gan", "network.discriminator.kind=unet"], ["network=gan"]])
def test_an_inner_kind_survives_an_outer_one(pairs: list[str]) -> None:
    pairs = [*pairs, "network.discriminator.kind=unet", "network.discriminator.head.bias=false"]
    for order in (pairs, pairs[::-1]):
        inner = Run().override(order).model_dump()["network"]["discriminator"]
        assert inner == {"kind": "unet", "width": 64, "depth": 4, "head": {"bias": False}}


@pytest.mark.parametrize("kind", ["network.kind=unet", "network=unet"])
def test_the_kind_that_it_is_already_changes_nothing(kind: str) -> None:
    run = Run().override(["network.depth=7"])
    assert run.override([kind]) == run


def test_a_kind_that_is_no_choice_is_a_plain_setting() -> None:
    run = Run(optimizer=Optimizer(lr=0.5))
    assert run.override(["optimizer.kind=sgd"]).optimizer == Optimizer(kind="sgd", lr=0.5)


def test_a_kind_with_a_required_setting(package: Path) -> None:
    (package / "fcn.py").write_text(FCN)
    assert Run().override(["network.kind=fcn", "network.stride=4"]).model_dump()["network"]["stride"] == 4
    assert str(failure(["network.kind=fcn"])).startswith("network.stride")


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("stesp", "did you mean 'steps'?"),
        ("optimiser.lr", "did you mean 'optimizer.lr'?"),
        ("optimizer.kid", "did you mean 'optimizer.kind'?"),
        ("network.widht", "did you mean 'network.width'?"),
        ("network.head.bais", "did you mean 'network.head.bias'?"),
        ("network.kind.kind", "did you mean 'network.kind'?"),
        ("zzz", "settings: network.kind, network.width, network.depth, network.head.bias, optimizer.kind, optimizer.lr"),
    ],
)
def test_unknown_settings_suggest_the_nearest(key: str, hint: str) -> None:
    error = failure([f"{key}=1"])
    assert str(error) == f"unknown setting {key!r}"
    assert error.hint.startswith(hint)


def test_the_settings_of_a_new_kind_are_suggested() -> None:
    assert failure(["network.kind=gan", "network.niose=1"]).hint == "did you mean 'network.noise'?"
    hint = failure(["network.kind=gan", "network.width=1"]).hint
    assert hint.startswith("settings: network.kind, network.noise, network.discriminator.kind")


@pytest.mark.parametrize("key", ["", ".", "steps.", ".steps", "network..width", "steps.x", "name.upper", "__class__.x"])
def test_odd_keys_are_usage_errors(key: str) -> None:
    failure([f"{key}=1"])


def test_every_bad_value_is_listed_with_its_key() -> None:
    lines = str(failure(["optimizer.lr=-1", "steps=abc", "network.width=0", "size=3"])).splitlines()
    found = sorted(line.strip().partition(":")[0] for line in lines)
    assert found == ["network.width = 0", "optimizer.lr = -1", "size = 3", "steps = 'abc'"]
    assert any("greater than 0" in line for line in lines)


def test_messages_are_in_the_words_of_the_command_line() -> None:
    assert str(failure(["network.width=0"])) == "network.width = 0: Input should be greater than 0"
    with pytest.raises(UsageError) as caught:
        Run.checked({"network": {"kind": "unett"}})
    assert "Value error" not in str(caught.value)
    with pytest.raises(UsageError, match=r"unknown setting 'network\.colour'"):
        Run.checked({"network": {"kind": "unet", "colour": 1}})


def test_settings_are_listed_depth_first_with_value_meaning_and_schema() -> None:
    found = {s.key: s for s in settings(Run().override(["network.width=8"]))}
    assert list(found) == [
        "network.kind",
        "network.width",
        "network.depth",
        "network.head.bias",
        "optimizer.kind",
        "optimizer.lr",
        "steps",
        "size",
        "name",
    ]
    assert found["network.width"].default == 8
    assert found["network.width"].description == "channels of the first level"
    assert found["network.width"].schemas == [{"exclusiveMinimum": 0, "type": "integer"}]
    assert (found["network.kind"].default, found["network.kind"].description) == ("unet", "what is trained")
    assert found["network.kind"].schemas == [{"enum": ["fcn", "gan", "unet"]}]
    assert found["size"].default == [64, 64]
    assert found["optimizer.kind"].schemas[0]["enum"] == ["adam", "sgd"]


def test_every_listed_setting_can_be_set_to_its_value() -> None:
    run = Run()
    for found in settings(run):
        value = found.default if isinstance(found.default, str) else str(found.default).replace("True", "true")
        assert run.override([f"{found.key}={value}"]) == run


@pytest.mark.parametrize(
    ("text", "wanted", "value"),
    [
        ("0,1", tuple[str, ...], ["0", "1"]),
        ("7", tuple[str, ...], ["7"]),
        ("2x3", tuple[str, ...], ["2x3"]),
        ('["a", "b"]', tuple[str, ...], ["a", "b"]),
        ("16", tuple[int, ...], [16]),
        ("2x3,4x5", tuple[tuple[int, int], ...], [[2, 3], [4, 5]]),
        ("3,5", tuple[int, int], [3, 5]),
        ("3x5", tuple[int, int], [3, 5]),
        ("3", tuple[int, int], 3),
        ("median", tuple[float, ...] | Literal["median"], "median"),
        ("0.5,2", tuple[float, ...] | Literal["median"], [0.5, 2]),
        ("null", tuple[int, ...] | None, None),
        ("2024", str, "2024"),
        ("a,b", None, "a,b"),
    ],
)
def test_parse_value_by_what_is_wanted(text: str, wanted: Any, value: Any) -> None:
    assert parse_value(text, wanted) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("true", True),
        ("null", None),
        ('"7"', "7"),
        ("[1, 2]", [1, 2]),
        ("480x640", [480, 640]),
        ("x640", "x640"),
        ("480x", "480x"),
        ("3x4x5", "3x4x5"),
        ("²x3", "²x3"),
        ("True", "True"),
        ("", ""),
        ("a=b", "a=b"),
        ("[1,", "[1,"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_parse_value(text: str, value: Any) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_split_override_cuts_at_the_first_equals_sign() -> None:
    assert split_override("data.root=/a=b") == ("data.root", "/a=b")
    assert split_override("name=") == ("name", "")


@pytest.mark.parametrize("pair", ["steps", "", "=3"])
def test_split_override_wants_key_and_value(pair: str) -> None:
    with pytest.raises(UsageError, match="expected key=value"):
        split_override(pair)


def test_did_you_mean() -> None:
    assert did_you_mean("camvit", ["facades", "camvid"]) == "did you mean 'camvid'?"
    assert did_you_mean("camvit", ["facades"]) == ""
    assert did_you_mean("", []) == ""
