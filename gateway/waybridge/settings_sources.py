"""Where a configuration comes from: pydantic-settings sources for the environment, the file and the kept secret.

`settings.load` says where to look by `reading`; outside of it `Settings(...)` is made of its arguments alone, so
that nothing is ever read from a process's own environment that was not handed in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from waybridge.configuration import Tree, kept_secret, merged, read_environment, read_toml

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Places:
    """Where to look: the file (None for none), the environment, and the file that keeps the secret."""

    file: Path | None
    environ: Mapping[str, str]
    key_file: Path

    @cached_property
    def tree(self) -> Tree:
        """The file's content, read once. Raises ConfigurationError."""
        return read_toml(self.file) if self.file is not None else {}


_places: ContextVar[Places | None] = ContextVar("waybridge_settings_places", default=None)


@contextlib.contextmanager
def reading(places: Places) -> Iterator[None]:
    """Settings that are made inside the block are read from these places."""
    before = _places.set(places)
    try:
        yield
    finally:
        _places.reset(before)


def sources_of(model: type[BaseSettings]) -> tuple[PydanticBaseSettingsSource, ...]:
    """The environment over the file over the kept secret; none outside of `reading`."""
    places = _places.get()
    if places is None:
        return ()
    return EnvironmentSource(model, places), FileSource(model, places), KeptSecretSource(model, places)


class _TreeSource(PydanticBaseSettingsSource):
    """A source that has its values as one tree."""

    def __init__(self, model: type[BaseSettings], places: Places) -> None:
        super().__init__(model)
        self.places = places

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        del field
        return self().get(field_name), field_name, False


class EnvironmentSource(_TreeSource):
    """`WAYBRIDGE_*`. A misspelt name is refused, and one entry of a list is laid over the file's list."""

    def __call__(self) -> Tree:
        environment = read_environment(self.settings_cls, self.places.environ)
        return {key: merged(self.places.tree.get(key), value) for key, value in environment.items()}


class FileSource(_TreeSource):
    """`waybridge.toml`; an unknown key in it is left for the model to refuse, which knows the nearest one."""

    def __call__(self) -> Tree:
        return self.places.tree


class KeptSecretSource(_TreeSource):
    """The secret of `waybridge.key`, made there where nothing sets one."""

    def __call__(self) -> Tree:
        return {} if "secret_keys" in self.current_state else {"secret_keys": [kept_secret(self.places.key_file)]}
