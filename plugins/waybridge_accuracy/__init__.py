"""Refuses positions that are too poor or too fast to be true; off unless there is a table `[plugins.accuracy]`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waybridge import hookimpl
from waybridge_accuracy.doubt import AccuracySettings, Doubt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from waybridge import Filter

NAME = "accuracy"

__all__ = ["waybridge_filters"]


@hookimpl
def waybridge_filters(settings: Mapping[str, Mapping[str, Any]]) -> Sequence[Filter]:
    table = settings.get(NAME)
    return [] if table is None else [Doubt(AccuracySettings.model_validate(dict(table)))]
