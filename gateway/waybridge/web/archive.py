"""Reads tiles out of a PMTiles v3 archive through a memory map.

The library's own reader parses every directory anew for every tile; here the parsed ones are kept.
"""

from __future__ import annotations

import gzip
import json
import mmap
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pmtiles.tile import (
    Compression,
    Entry,
    MagicNumberNotFound,
    SpecVersionUnsupported,
    TileType,
    deserialize_directory,
    deserialize_header,
    find_tile,
    zxy_to_tileid,
)

from waybridge.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_HEADER_BYTES = 127
_DEEPEST = 4
_KEPT_DIRECTORIES = 64
_DEGREES = 1e7


class Archive:
    """One archive of vector tiles. Safe to read from several threads.

    Raises ConfigurationError where the file is missing, is not PMTiles v3, or does not hold gzip or plain vector tiles.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._header = deserialize_header(self._bytes[:_HEADER_BYTES])
        except (OSError, ValueError, IndexError, MagicNumberNotFound, SpecVersionUnsupported) as error:
            reason = str(error) or type(error).__name__
            raise ConfigurationError(f"map.basemap: {path} cannot be read as PMTiles v3: {reason}") from error
        if self._header["tile_type"] is not TileType.MVT:
            raise ConfigurationError(f"map.basemap: {path} holds no vector tiles (MVT)")
        if self._header["tile_compression"] not in (Compression.GZIP, Compression.NONE):
            raise ConfigurationError(f"map.basemap: the tiles of {path} are neither plain nor gzip")
        self.gzipped: bool = self._header["tile_compression"] is Compression.GZIP
        self.min_zoom: int = self._header["min_zoom"]
        self.max_zoom: int = self._header["max_zoom"]
        self._directory: Callable[[int, int], list[Entry]] = lru_cache(_KEPT_DIRECTORIES)(self._read_directory)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in degrees."""
        header = self._header
        return (
            header["min_lon_e7"] / _DEGREES,
            header["min_lat_e7"] / _DEGREES,
            header["max_lon_e7"] / _DEGREES,
            header["max_lat_e7"] / _DEGREES,
        )

    def layers(self) -> frozenset[str]:
        """Names of the vector layers that the metadata lists (tilemaker nests them in a text of JSON)."""
        start, length = self._header["metadata_offset"], self._header["metadata_length"]
        raw = self._bytes[start : start + length]
        if self._header["internal_compression"] is Compression.GZIP:
            raw = gzip.decompress(raw)
        metadata: dict[str, Any] = json.loads(raw)
        listed = metadata.get("vector_layers")
        if listed is None and isinstance(metadata.get("json"), str):
            listed = json.loads(metadata["json"]).get("vector_layers")
        return frozenset(layer["id"] for layer in listed or ())

    def tile(self, z: int, x: int, y: int) -> bytes | None:
        """The tile as stored (`gzipped` says how), or None where the archive has none."""
        wanted = zxy_to_tileid(z, x, y)
        offset, length = self._header["root_offset"], self._header["root_length"]
        for _ in range(_DEEPEST):
            entry = find_tile(self._directory(offset, length), wanted)
            if entry is None:
                return None
            if entry.run_length > 0:
                start = self._header["tile_data_offset"] + entry.offset
                return self._bytes[start : start + entry.length]
            offset, length = self._header["leaf_directory_offset"] + entry.offset, entry.length
        return None

    def close(self) -> None:
        self._bytes.close()

    def _read_directory(self, offset: int, length: int) -> list[Entry]:
        return deserialize_directory(self._bytes[offset : offset + length])
