"""JSON from files that anybody may have changed: parsed and checked before it is used."""

import dataclasses
import json
import types
import typing
from typing import Any

from lrn_tf.settings.table import FLOAT32_MAX

# What a checkpoint's step can be; more than any count here will reach.
INT_MAX = 2**63 - 1
NAMES = {str: "text", int: "a whole number", float: "a finite number", dict: "an object", list: "a list"}


def parse(raw: bytes) -> Any:
    """The value that UTF-8 text of JSON stands for.

    Raises:
        ValueError: it stands for none.
    """
    try:
        return json.loads(raw.decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def of_type(wanted: Any, value: Any, name: str) -> Any:
    """The value as what an annotation says: a dataclass where it is one, otherwise as it was parsed.

    Args:
        wanted: str, int, float, dict, `X | None`, `list[X]`, `tuple[X, ...]`, `dict[str, X]`, a TypedDict
            or a dataclass.
        value: as `parse` returns it.
        name: what to call it.

    Raises:
        ValueError: it is something else, has other fields, or a number is not finite or absurdly large.
    """
    of, inner = typing.get_origin(wanted) or wanted, typing.get_args(wanted)
    if of is types.UnionType:
        return None if value is None else of_type(inner[0], value, name)
    if typing.is_typeddict(of) or dataclasses.is_dataclass(of):
        hints, fields = typing.get_type_hints(of), of_type(dict, value, name)
        for field in (*hints, *fields):
            if field not in fields or field not in hints:
                raise ValueError(f"{name} has {'no' if field in hints else 'an unknown'} {ascii(field)}")
        found = {field: of_type(hint, fields[field], field) for field, hint in hints.items()}
        return of(**found)
    if of is tuple:
        return tuple(of_type(list[inner[0]], value, name))
    if not _is(of, value):
        raise ValueError(f"{name} is {_shown(value)}, not {NAMES[of]}")
    if of is dict and inner:
        return {
            of_type(str, key, name): of_type(inner[1], v, f"{name} of {key}") for key, v in value.items()
        }
    if of is list and inner:
        return [of_type(inner[0], v, name) for v in value]
    return float(value) if of is float else value


def _is(of, value):
    if of is float:
        return type(value) in (int, float) and -FLOAT32_MAX <= value <= FLOAT32_MAX  # not NaN either
    if type(value) is not of:
        return False
    if of is str:
        return not any("\ud800" <= c <= "\udfff" for c in value)  # has no UTF-8
    return of is not int or -INT_MAX <= value <= INT_MAX


def _shown(value):
    """A few characters of it."""
    if isinstance(value, dict | list):
        return NAMES[type(value)]
    said = json.dumps(value)
    return said if len(said) <= 40 else f"{said[:37]}..."
