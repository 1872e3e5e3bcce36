"""Configuration: nested frozen dataclasses, read from YAML, changed from the command line.

A key that no dataclass knows is an error that names the nearest known one; a value of the wrong
type is an error that names the key, the type and the value.
"""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml

from .errors import ConfigError, unknown_name

T = TypeVar("T")
LARGEST_SEED = 2**32 - 1  # of NumPy
SINGLE_COMMA = re.compile(r",\s*\w+(\.\w+)+\s*=")  # before what looks like another override


def build(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build a configuration from plain values.

    Args:
        cls: a configuration dataclass.
        values: keys and plain values, nested as the dataclass is.
        where: dotted name of the section, for messages.

    Raises:
        ConfigError: an unknown key, a key that must be given and is not, or a value of the wrong
            type.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    arguments = {}
    for key, value in values.items():
        if key not in fields:
            place = f"{where}: " if where else ""
            raise ConfigError(place + unknown_name("configuration key", str(key), fields))
        arguments[key] = _coerce(hints[key], value, f"{where}.{key}" if where else key)
    for key, field in fields.items():
        optional = (field.default, field.default_factory) != (dataclasses.MISSING,) * 2
        if key not in arguments and not optional:
            raise ConfigError(f"{f'{where}.{key}' if where else key} must be given")
    return cls(**arguments)


def plain(config: Any) -> dict[str, Any]:
    """Convert a configuration to nested dictionaries of plain values, as in YAML and JSON."""
    return {f.name: _plain_value(getattr(config, f.name)) for f in dataclasses.fields(config)}


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested values by dotted names, `runner.total_steps`."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{above}{name}"
        found |= flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return found


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested changes into nested values; `changes` wins, lists are replaced whole."""
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged


def parse_overrides(text: str) -> dict[str, Any]:
    """Read s3prl's override letters, `runner.total_steps=50,,data.batch_size=16`.

    Values are YAML; nothing after the sign is empty text, and `null` is None.

    Raises:
        ConfigError: an item that is not `key=value`.
    """
    changes: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in text.split(",,"))):
        if SINGLE_COMMA.search(item):
            raise ConfigError(f"overrides are separated by two commas, ',,'; found '{item}'")
        key, equals, value = item.partition("=")
        names = [name.strip() for name in key.split(".")]
        if not equals or not all(names):
            raise ConfigError(f"an override is 'section.key=value', found '{item}'")
        parsed: Any
        try:
            parsed = yaml.safe_load(value) if value.strip() else ""
        except (yaml.YAMLError, ValueError):  # a date that does not exist is a ValueError
            parsed = value.strip()
        for name in reversed(names):
            parsed = {name: parsed}
        changes = merge(changes, parsed)
    return changes


def parse_device(name: str) -> str:
    """Return the value of `--device` if it has the form of one; whether it is there is not checked.

    Raises:
        ConfigError: it has not.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ConfigError(f"--device is auto, cpu, cuda or cuda:N; found '{name}'")
    return name


class _Yaml(yaml.SafeLoader):
    """Safe loader that refuses a key given twice; PyYAML's keeps the second without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        for key, times in Counter(key.value for key, _ in node.value if key.id == "scalar").items():
            if times > 1:
                raise ValueError(f"line {node.start_mark.line + 1}: the key '{key}' is given twice")
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML or holds no mapping.
    """
    try:
        values = _Yaml(Path(path).read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        raise ConfigError(f"cannot read the configuration '{path}': {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"'{path}' is not a YAML file: {reason}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"'{path}' must hold sections with keys, found {type(values).__name__}")
    return values


def _plain_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return plain(value)
    if isinstance(value, (list, tuple)):
        return [_plain_value(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain_value(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _coerce(hint: Any, value: Any, where: str) -> Any:
    """Check one value against its annotation; numbers written as text are taken as numbers."""
    origin = get_origin(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise _type_error(where, "a section with keys", value)
        return build(hint, value, where)  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(hint):
            return None
        *others, last = (option for option in get_args(hint) if option is not type(None))
        for option in others:
            try:
                return _coerce(option, value, where)
            except ConfigError:
                continue
        return _coerce(last, value, where)
    if origin is Literal:
        # YAML reads a choice such as 32 or 16 as a number, and on and off as truth values.
        choices = {str(choice): choice for choice in get_args(hint)}
        if isinstance(value, bool) and {"on", "off"} <= choices.keys():
            value = "on" if value else "off"
        if str(value) not in choices:
            raise ConfigError(f"{where} must be one of {', '.join(choices)}, found '{value}'")
        return choices[str(value)]
    if origin is tuple:
        return _coerce_tuple(get_args(hint), value, where)
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(value, Mapping):
            raise _type_error(where, "a mapping", value)
        return dict(value)
    return _scalar(hint, value, where)


def _coerce_tuple(hints: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    items = value if isinstance(value, (list, tuple)) else [value]
    if hints[-1] is Ellipsis:
        hints = hints[:1] * len(items)
    if len(items) != len(hints):
        raise _type_error(where, f"a list of {len(hints)}", value)
    return tuple(_coerce(hint, item, where) for hint, item in zip(hints, items, strict=True))


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is bool:
        if isinstance(value, bool):
            return value
        raise _type_error(where, "true or false", value)
    if hint is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value  # as it is: a large seed has more digits than a float holds
        number = _number(value)
        if number is None or not number.is_integer():
            raise _type_error(where, "a whole number", value)
        return int(number)
    if hint is float:
        number = _number(value)
        if number is None:
            raise _type_error(where, "a number", value)
        return number
    if hint is str or hint is Path:
        # YAML reads an unquoted `no` as False and an empty value as None: never text.
        if isinstance(value, bool) or not isinstance(value, (str, int, float, Path)):
            raise _type_error(where, "text", value)
        return hint(str(value))
    assert hint is Any, f"{where}: configurations have no fields of type {hint}"
    return value


def _number(value: Any) -> float | None:
    """Read a number; YAML gives 1e-4, which has no point, as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else number


def _type_error(where: str, wanted: str, value: Any) -> ConfigError:
    return ConfigError(f"{where} must be {wanted}, found '{value}'")
