"""What callers send: the bases of all bodies and queries, and how text becomes them.

A body is decoded once strictly (400: not UTF-8, not JSON, duplicate keys, NaN and infinities), searched for
text that no database holds (422: NUL, lone surrogates), then validated (422 with the fields).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from multidict import MultiMapping
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from waybridge.errors import Invalid, Malformed

M = TypeVar("M", bound=BaseModel)


class Body(BaseModel):
    """The base of every JSON body: strict, finite numbers only, unknown fields are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class Query(BaseModel):
    """The base of every query.

    Parameters that an operation does not know are ignored; a known one may be given once. Use the `Query...` types
    for what is not text.
    """

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**63 else value


def _text_to_int(value: Any) -> Any:
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value, re.ASCII) else value


def _text_to_float(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?([eE][-+]?[0-9]{1,2})?", value, re.ASCII):
        return float(value)
    return value


def _text_to_bool(value: Any) -> Any:
    return {"true": True, "1": True, "false": False, "0": False}.get(value, value) if isinstance(value, str) else value


def _text_to_list(value: Any) -> Any:
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


Whole = Annotated[int, BeforeValidator(_whole)]
"""An integer of a body; 64.0 is one too, as JSON Schema says."""
QueryInt = Annotated[int, BeforeValidator(_text_to_int)]
QueryFloat = Annotated[float, BeforeValidator(_text_to_float)]
QueryBool = Annotated[bool, BeforeValidator(_text_to_bool)]
"""`true`, `false`, `1` or `0`."""
QueryList = Annotated[list[str], BeforeValidator(_text_to_list)]
"""Comma-separated text; empty parts are left out."""
InstanceId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Paging(Query):
    """`limit` and `offset` of every list. The dispatcher holds `limit` to the settings' page sizes."""

    limit: QueryInt = Field(default=50, ge=1, json_schema_extra={"maximum": 500})
    offset: QueryInt = Field(default=0, ge=0, le=2**53 - 1)


def decode_json(raw: bytes) -> Any:
    """The JSON value of a body. Raises Malformed for what is no JSON, Invalid for text that cannot be kept."""
    try:
        value = json.loads(
            raw.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite
        )
    except UnicodeDecodeError as error:
        raise Malformed("the body is not UTF-8") from error
    except RecursionError as error:
        raise Malformed("the body is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from error
    except _Refused as error:
        raise Malformed(f"the body is not JSON: {error}") from error
    except _TooLarge as error:
        raise Invalid(str(error), errors=[("", "holds a number that is too large")]) from error
    except ValueError as error:
        raise Malformed("the body holds a number with too many digits") from error
    if b"\\u" in raw:
        bad = list(_unkeepable(value, ""))
        if bad:
            raise Invalid("the body holds text that cannot be kept", errors=bad)
    return value


def validate(model: type[M], raw: bytes) -> M:
    """A body as its model. Raises Malformed or Invalid."""
    decode_json(raw)
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise invalid(error) from None


def validate_query(model: type[M], query: MultiMapping[str]) -> M:
    """A query as its model. Raises Invalid."""
    given: dict[str, str] = {}
    for name, value in query.items():
        if name in model.model_fields:
            if name in given:
                raise Invalid("a query parameter is given more than once", errors=[(name, "is given more than once")])
            if not keepable(value):
                raise Invalid("the query is not valid", errors=[(name, "must not hold control characters")])
            given[name] = value
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise invalid(error, "the query is not valid") from None


def invalid(error: ValidationError, detail: str = "the body is not valid") -> Invalid:
    """A validation error in the API's form: dotted fields and messages without the input."""
    found: list[tuple[str, str]] = []
    for each in error.errors(include_url=False, include_context=False, include_input=False)[:100]:
        field = ".".join(str(part) for part in each["loc"])
        found.append((field, each["msg"].removeprefix("Value error, ")))
    return Invalid(detail, errors=found)


def keepable(text: str) -> bool:
    """Whether text can be kept and shown in one line: no control characters, no lone surrogates."""
    return text.isprintable() or not any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in text)


class _Refused(ValueError):
    """A body that other parsers would let pass."""


class _TooLarge(ValueError):
    """A number that is JSON but beyond what a double holds."""


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("an object has the same key twice")
    return found


def _no_constant(name: str) -> Any:
    raise _Refused(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _TooLarge("the body holds a number that is too large")
    return value


def _unkeepable(value: Any, path: str) -> list[tuple[str, str]]:
    if isinstance(value, str):
        bad = "\0" in value or any(0xD800 <= ord(c) < 0xE000 for c in value)
        return [(path, "must not hold NUL or lone surrogates")] if bad else []
    found: list[tuple[str, str]] = []
    if isinstance(value, Mapping):
        for key, each in value.items():
            if _unkeepable(key, ""):
                found.append((path, "has a key with NUL or lone surrogates"))
            else:
                found += _unkeepable(each, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, each in enumerate(value):
            found += _unkeepable(each, f"{path}.{index}" if path else str(index))
    return found
