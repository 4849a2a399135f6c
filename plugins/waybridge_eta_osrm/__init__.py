"""Arrival times by road: asks an OSRM server for the driving time (`[plugins.eta_osrm] url = "..."`).

Without a `url` the plugin does nothing. Whatever goes wrong, slow answers too, the gateway's own estimate counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from waybridge import hookimpl
from waybridge_eta_osrm.route import OsrmEstimator, OsrmSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from waybridge import EtaEstimator

NAME = "eta_osrm"

__all__ = ["waybridge_eta"]


@hookimpl
def waybridge_eta(settings: Mapping[str, Mapping[str, Any]]) -> EtaEstimator | None:
    table = settings.get(NAME, {})
    return OsrmEstimator(OsrmSettings.model_validate(dict(table))) if table.get("url") else None
