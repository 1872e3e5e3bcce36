"""Configuration: what a user may write, and how each mistake is named."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3prl_speechclip.config import build, merge, parse_overrides, plain, read_yaml
from s3prl_speechclip.errors import ConfigError
from s3prl_speechclip.model.config import VARIANTS, ModelConfig, find_variant


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.1
    widths: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str = "a"
    steps: int = 1
    flag: bool = False
    precision: Literal["32", "bf16"] = "32"
    betas: tuple[float, float] = (0.9, 0.98)
    limit: int | None = 3
    amount: int | Literal["all"] = "all"
    folder: Path = Path("here")
    extra: dict[str, Any] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None


@dataclass(frozen=True, kw_only=True)
class Needy:
    source: str


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"inner": {"rate": "1e-4"}}, Outer(inner=Inner(rate=1e-4))),
        ({"inner": {"rate": 2}}, Outer(inner=Inner(rate=2.0))),
        ({"steps": "5e4"}, Outer(steps=50_000)),
        ({"steps": 3.0}, Outer(steps=3)),
        ({"steps": 2**60 + 1}, Outer(steps=2**60 + 1)),
        ({"inner": {"widths": [4, "5"]}}, Outer(inner=Inner(widths=(4, 5)))),
        ({"inner": {"widths": 4}}, Outer(inner=Inner(widths=(4,)))),
        ({"betas": [0.5, 1]}, Outer(betas=(0.5, 1.0))),
        ({"precision": 32}, Outer(precision="32")),
        ({"limit": None}, Outer(limit=None)),
        ({"limit": 7}, Outer(limit=7)),
        ({"amount": "all"}, Outer(amount="all")),
        ({"amount": 4}, Outer(amount=4)),
        ({"maybe": None}, Outer()),
        ({"maybe": {"rate": 1}}, Outer(maybe=Inner(rate=1.0))),
        ({"folder": "there"}, Outer(folder=Path("there"))),
        ({"name": 7}, Outer(name="7")),
        (
            {"extra": {"any": [None, {"thing": True}]}},
            Outer(extra={"any": [None, {"thing": True}]}),
        ),
    ],
)
def test_what_yaml_gives_becomes_what_the_field_says(values: dict, expected: Outer):
    assert build(Outer, values) == expected


def test_numbers_have_the_type_of_their_field():
    """Guards against 3.0 steps and a rate of int 2, which compare equal and fail later."""
    made = build(Outer, {"steps": 3.0, "inner": {"rate": 2, "widths": [4.0]}})
    assert [type(x) for x in (made.steps, made.inner.rate, *made.inner.widths)] == [int, float, int]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stps": 1}, "unknown configuration key 'stps'; did you mean 'steps'?"),
        ({"inner": {"rat": 1}}, "inner: unknown configuration key 'rat'; did you mean 'rate'?"),
        ({"inner": {"zzz": 1}}, "inner: unknown configuration key 'zzz'; known: rate, widths"),
        ({3: 1}, "unknown configuration key '3'; known: "),
        ({"steps": "many"}, "steps must be a whole number, found 'many'"),
        ({"steps": 1.5}, "steps must be a whole number, found '1.5'"),
        ({"steps": True}, "steps must be a whole number, found 'True'"),
        ({"steps": "inf"}, "steps must be a whole number, found 'inf'"),
        ({"steps": "nan"}, "steps must be a whole number, found 'nan'"),
        ({"steps": None}, "steps must be a whole number, found 'None'"),
        ({"inner": {"rate": "fast"}}, "inner.rate must be a number, found 'fast'"),
        ({"inner": {"rate": False}}, "inner.rate must be a number, found 'False'"),
        ({"inner": {"rate": float("nan")}}, "inner.rate must be a number, found 'nan'"),
        ({"inner": {"widths": [1, "x"]}}, "inner.widths must be a whole number, found 'x'"),
        ({"inner": 3}, "inner must be a section with keys, found '3'"),
        ({"inner": None}, "inner must be a section with keys, found 'None'"),
        ({"betas": [0.9]}, "betas must be a list of 2, found '[0.9]'"),
        ({"flag": "yes please"}, "flag must be true or false, found 'yes please'"),
        ({"flag": 1}, "flag must be true or false, found '1'"),
        ({"precision": "64"}, "precision must be one of 32, bf16, found '64'"),
        ({"amount": "some"}, "amount must be one of all, found 'some'"),
        ({"extra": [1]}, "extra must be a mapping, found '[1]'"),
        ({"name": None}, "name must be text, found 'None'"),
        ({"name": False}, "name must be text, found 'False'"),
        ({"name": ["a"]}, "name must be text, found '['a']'"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_remedy(values: dict, message: str):
    with pytest.raises(ConfigError) as caught:
        build(Outer, values)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_key_without_default_must_be_given():
    """Guards against a TypeError of the dataclass itself."""
    with pytest.raises(ConfigError, match=r"^data\.source must be given$"):
        build(Needy, {}, "data")


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("", {}),
        ("a.b=1,,c.d=2", {"a": {"b": 1}, "c": {"d": 2}}),
        ("a.b=1,,a.c=2,,", {"a": {"b": 1, "c": 2}}),
        ("a.b=1,,a.b=2", {"a": {"b": 2}}),
        (" a . b = 1 ,, c=x ", {"a": {"b": 1}, "c": "x"}),
        ("a=[1, 2]", {"a": [1, 2]}),
        ("a='x,y'", {"a": "x,y"}),
        ("a=1e-4", {"a": "1e-4"}),
        ("a=true", {"a": True}),
        ("a=null", {"a": None}),
        ("a=", {"a": ""}),
        ("a=k=v", {"a": "k=v"}),
        ("a=@home", {"a": "@home"}),
        ("a=2024-99-99", {"a": "2024-99-99"}),
    ],
)
def test_override_letters(text: str, changes: dict):
    assert parse_overrides(text) == changes


@pytest.mark.parametrize("text", ["a.b", "=1", "a..b=1", ".a=1", "a=1,,b"])
def test_an_override_without_key_or_sign_is_refused(text: str):
    with pytest.raises(ConfigError, match="an override is 'section.key=value', found"):
        parse_overrides(text)


def test_overrides_of_every_kind_reach_a_model():
    """Guards the whole way from the command line's letters to typed fields."""
    changes = parse_overrides(
        "keywords.projection=[1024, 768],,objective.temperature=7e-2,,keywords.norm=none,,"
        "clip.pretrained=,,speech_encoder.architecture.num_hidden_layers=4,,cif.scaling_steps=-1"
    )
    config = build(ModelConfig, merge(plain(ModelConfig()), changes))
    assert config.keywords.projection == (1024, 768)
    assert config.objective.temperature == 0.07
    assert config.keywords.norm == "none"
    assert config.clip.pretrained == ""
    assert config.speech_encoder.architecture == {"num_hidden_layers": 4}
    assert config.cif.scaling_steps == -1


def test_merge_leaves_what_it_is_given_and_replaces_lists():
    base = {"a": {"b": [1, 2], "c": 1}, "d": None}
    assert merge(base, {"a": {"b": [3]}, "d": {"e": 1}}) == {
        "a": {"b": [3], "c": 1},
        "d": {"e": 1},
    }
    assert base == {"a": {"b": [1, 2], "c": 1}, "d": None}


# PyYAML writes a lone U+0085 and its like so that they read back as a space.
words = st.text(st.characters(categories=["L", "N", "P"]))
configurations = st.builds(
    Outer,
    name=words,
    steps=st.integers(),
    flag=st.booleans(),
    precision=st.sampled_from(["32", "bf16"]),
    betas=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    limit=st.none() | st.integers(),
    amount=st.just("all") | st.integers(),
    folder=st.sampled_from([Path("a/b"), Path("/c")]),
    extra=st.dictionaries(words, st.none() | st.integers() | st.lists(words)),
    inner=st.builds(
        Inner,
        rate=st.floats(allow_nan=False),
        widths=st.lists(st.integers()).map(tuple),
    ),
    maybe=st.none() | st.builds(Inner),
)


@given(configurations)
def test_a_configuration_survives_a_yaml_file(config: Outer):
    """Guards the resolved configuration that an experiment folder keeps."""
    text = yaml.safe_dump(plain(config), allow_unicode=True)
    assert build(Outer, yaml.safe_load(text)) == config


def any_value(hint: Any) -> st.SearchStrategy:
    """Make values of a configuration field's type."""
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is tuple:
        return st.lists(st.integers(0, 9)).map(tuple)
    if get_origin(hint) is dict:
        keys = st.text("abc", min_size=1)
        return st.dictionaries(keys, st.integers() | st.text("ab 1:#") | st.booleans())
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        return st.builds(hint, **{name: any_value(kind) for name, kind in hints.items()})
    if get_args(hint):
        return st.one_of([any_value(kind) for kind in get_args(hint)])
    plain_types = {
        bool: st.booleans(),
        int: st.integers(),
        float: st.floats(allow_nan=False),
        str: st.text(),
        type(None): st.none(),
    }
    return plain_types[hint]


@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(any_value(ModelConfig))
def test_any_model_configuration_survives_yaml_and_json(config: ModelConfig):
    """Guards config.json and config.yaml against a value that comes back as another."""
    text = yaml.safe_dump(plain(config), allow_unicode=True)
    assert build(ModelConfig, yaml.safe_load(text)) == config
    assert build(ModelConfig, json.loads(json.dumps(plain(config)))) == config


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_found_by_name_and_survives_plain(name: str):
    assert find_variant(name).name == name
    config = ModelConfig(variant=name)
    assert build(ModelConfig, plain(config)) == config


def test_an_unknown_variant_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'speechclip_hybrid'"):
        find_variant("speechclip_hybird")


def test_read_yaml(tmp_path: Path):
    file = tmp_path / "config.yaml"
    file.write_text("model:\n  size: mini\n")
    assert read_yaml(file) == {"model": {"size": "mini"}}
    file.write_text("# nothing yet\n")
    assert read_yaml(file) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1,\nb: 2", "is not a YAML file"),
        (b"- a\n- b\n", "must hold sections with keys, found list"),
        (b"\xff\xfe\x00", "is not a YAML file"),
        (b"a: 2024-99-99\n", "is not a YAML file"),
        (b"a: !!python/object/apply:os.getcwd []\n", "is not a YAML file"),
        (b"[" * 2000, "is not a YAML file: maximum recursion depth"),
        (b"a: &a [*a]\n? [1]\n: 2", "is not a YAML file"),
        (b"a:\n  b: 1\n  c: 2\n  b: 3\n", "line 2: the key 'b' is given twice"),
    ],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, content: bytes, message: str):
    file = tmp_path / "broken.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(file)
    assert "broken.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot read the configuration '.*absent.yaml'"):
        read_yaml(tmp_path / "absent.yaml")


def test_a_single_comma_between_overrides_is_an_error():
    """Guards against two overrides that are read as the value of the first."""
    with pytest.raises(ConfigError, match="two commas"):
        parse_overrides("runner.total_steps=50,data.batch_size=16")
    assert parse_overrides("model.dim=[8, 8]") == {"model": {"dim": [8, 8]}}
