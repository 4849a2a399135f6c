"""Reads a configuration into one tree of plain values, and says what is wrong with it in sentences.

A file (TOML) and the environment make the tree; a pydantic model validates it. Nothing here knows the settings
themselves: the model's fields say which names exist. Messages name keys and never show values, which may be
secrets.
"""

from __future__ import annotations

import difflib
import json
import os
import secrets
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, get_args, get_origin

from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError

from waybridge.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

Tree: TypeAlias = dict[str, Any]
Place: TypeAlias = tuple[int | str, ...]
M = TypeVar("M", bound=BaseModel)
PREFIX = "WAYBRIDGE_"
NOT_SETTINGS = frozenset({"WAYBRIDGE_CONFIG", "WAYBRIDGE_URL", "WAYBRIDGE_TOKEN"})
"""Environment names that commands read themselves: the file, and whom the client commands talk to."""
LIKE = 0.6
"""How like two names must be (difflib's ratio) for one to be proposed for the other."""
SHORTEST_SECRET = 32
"""Bytes of a secret key: below this an HMAC-SHA256 key is weaker than its digest (RFC 7518 §3.2)."""


def read_toml(path: Path) -> Tree:
    """The file's tree. Raises ConfigurationError with the place of the fault, and nothing of the content."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: is not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None


def read_environment(model: type[BaseModel], environ: Mapping[str, str]) -> Tree:
    """The tree of `WAYBRIDGE_*`: `__` between levels, numbers for places in a list.

    Lists are JSON or separated by commas. Raises ConfigurationError for a name that is no setting.
    """
    tree: Tree = {}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in NOT_SETTINGS:
            path = name.removeprefix(PREFIX).lower().split("__")
            branch = tree
            for part in path[:-1]:
                below = branch.setdefault(part, {})
                if not isinstance(below, dict):
                    raise ConfigurationError(f"{name}: a level above it is set as a whole; set one of the two")
                branch = below
            branch[path[-1]] = _decoded(_annotation(model, path, name), environ[name])
    return tree


def merged(below: Any, above: Any) -> Any:
    """`above` laid over `below`: tables key by key, a list's entries by their numbers, all else replaced."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: merged(below.get(key), value) for key, value in above.items()}
    if isinstance(above, dict) and above and all(key.isdecimal() for key in above):
        entries = list(below) if isinstance(below, list) else []
        for number in sorted(int(key) for key in above):
            if number > len(entries):
                raise ConfigurationError(f"environment: entry {number} of a list is set, but there is no {number - 1}")
            entries[number : number + 1] = [
                merged(entries[number] if number < len(entries) else {}, above[str(number)])
            ]
        return entries
    return above


def sentences(error: ValidationError, model: type[BaseModel]) -> str:
    """What a validation found, a sentence a fault, without the values."""
    return _joined(_faults(error, model))


def validated(model: type[M], given: Mapping[str, Any]) -> M:
    """A model of what was given. Raises ConfigurationError with the faults, without the values."""
    try:
        return model.model_validate(dict(given))
    except ValidationError as error:
        faults = _faults(error, model)
        raise ConfigurationError(_joined(faults), errors=faults) from None


def _faults(error: ValidationError, model: type[BaseModel]) -> list[tuple[str, str]]:
    found = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        place = fault["loc"]
        if fault["type"] == "extra_forbidden":
            near = nearest(model, place)
            message = "unknown key" + (f"; did you mean {dotted(near)}?" if near else "")
        else:
            message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        found.append((dotted(place), message))
    return found


def _joined(faults: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"{place}: {message}" if place else message for place, message in faults)


def nearest(model: type[BaseModel], place: Place) -> Place | None:
    """The key that a place which is none most likely means; None where there is nothing like it."""
    *above, key = place
    level = tuple(part for part in above if isinstance(part, str))
    best: tuple[float, Place] = (0.0, ())
    for path in _paths(model):
        here = path[:-1] == level
        likeness = _ratio(dotted(place), dotted(path))
        if path[-1] == key:
            likeness = max(likeness, 0.95)
        elif here:
            likeness = max(likeness, _ratio(str(key), path[-1]))
        best = max(best, (likeness, (*above, path[-1]) if here else path))
    return best[1] if best[0] >= LIKE else None


def dotted(place: Place) -> str:
    """`connections[0].settings` for ("connections", 0, "settings")."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def kept_secret(path: Path) -> str:
    """The secret in the key file, which is made with mode 0600 when it is not there.

    The file appears whole or not at all, and of two processes that start at once one makes it and both read it.
    """
    try:
        if not path.exists():
            _make_secret(path)
        secret = path.read_text("utf-8").strip()
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not a key file of Waybridge; remove it or set secret_keys") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; set secret_keys, or start in another folder") from None
    if len(secret.encode()) < SHORTEST_SECRET:
        raise ConfigurationError(f"{path}: holds less than {SHORTEST_SECRET} bytes; remove it or set secret_keys")
    return secret


def _make_secret(path: Path) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        draft.unlink()


def _annotation(model: type[BaseModel], path: list[str], name: str) -> Any:
    """The type of the setting at `path`. Raises ConfigurationError naming the nearest environment name."""
    home: Any = model
    place: Place = ()
    for depth, text in enumerate(path):
        part = int(text) if text.isdecimal() and _entry(home) else text
        place = (*place, part)
        home = _below(home, part)
        if home is None:
            near = nearest(model, place)
            rest = path[depth + 1 :] if near and len(near) == len(place) else []
            meant = PREFIX + "__".join(str(part) for part in (*(near or ()), *rest)).upper()
            raise ConfigurationError(f"{name}: unknown setting" + (f"; did you mean {meant}?" if near else ""))
    return home


def _below(home: Any, part: int | str) -> Any:
    """The type one level down: a field's, an entry's, Any inside free tables; None where there is nothing."""
    if isinstance(home, type) and issubclass(home, BaseModel):
        field = home.model_fields.get(str(part))
        if field is not None:
            return field.annotation
        return Any if home.model_config.get("extra") == "allow" else None
    if home is Any or get_origin(home) in (dict, Mapping):
        return Any
    entry = _entry(home)
    if entry is not None and isinstance(part, int):
        return entry
    return next((arm for arm in get_args(home) if _below(arm, part) is not None), None) if _union(home) else None


def _entry(home: Any) -> Any:
    return get_args(home)[0] if get_origin(home) is tuple else None


def _union(home: Any) -> bool:
    return type(None) in get_args(home)


def _decoded(annotation: Any, text: str) -> Any:
    """The value that an environment's text stands for; the text itself where it does not fit (validated later)."""
    if text.lstrip()[:1] in ("[", "{") and annotation is not str:
        try:
            return json.loads(text)
        except ValueError:
            return text
    if annotation is Any or annotation in (str, SecretStr):
        return text
    entry = _entry(annotation)
    if entry is not None:
        return [_decoded(entry, part.strip()) for part in text.split(",") if part.strip()]
    try:
        return TypeAdapter(annotation).validate_strings(text.strip())
    except (ValidationError, ValueError):
        return text


def _ratio(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _paths(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*above, name)
        below = _entry(field.annotation) or field.annotation
        if isinstance(below, type) and issubclass(below, BaseModel):
            yield from _paths(below, (*above, name))
