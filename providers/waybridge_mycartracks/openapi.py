"""Compares the vendor's OpenAPI document with the names that last positions are read by.

The document could not be seen when the tables were written: whoever can should run this first.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import aiohttp
import typer

from waybridge_mycartracks.payload import ALIASES, ENVELOPES, NESTED, REQUIRED_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATH: Final = "/vehicles/lastPositions"
_DEEPEST: Final = 12
_LARGEST: Final = 32 * 1024 * 1024
_PAGING: Final = frozenset({"page", "limit", "total", "totalPages", "totalElements", "next", "links", "hasMore"})


def property_names(document: Any) -> frozenset[str] | None:
    """Every property name in the answer of the last positions; None when the document has no such path."""
    paths = document.get("paths") if isinstance(document, dict) else None
    if not isinstance(paths, dict):
        return None
    answers = [
        answer
        for path, methods in paths.items()
        if path.endswith(_PATH) and isinstance(methods, dict)
        for status, answer in methods.get("get", {}).get("responses", {}).items()
        if status.startswith("2")
    ]
    if not answers:
        return None
    return frozenset(name for answer in answers for name in _names(document, answer, _DEEPEST))


def verdict(names: frozenset[str]) -> tuple[list[str], bool]:
    """What to say about these names, and whether everything needed is among them."""
    lines, complete = [], True
    for field, aliases in ALIASES.items():
        found = next((alias for alias in aliases if alias in names), None)
        lines.append(f"{field}: {f'read from {found}' if found else 'not found'}")
        complete = complete and (found is not None or field not in REQUIRED_FIELDS)
    known = {alias for aliases in ALIASES.values() for alias in aliases} | {*ENVELOPES, *NESTED} | _PAGING
    if unknown := sorted(names - known):
        lines.append(f"not read: {', '.join(unknown)}")
    return lines, complete


def command(
    document: Annotated[str, typer.Argument(metavar="FILE|URL", help="The vendor's OpenAPI document, in JSON.")],
) -> None:
    """Compares MyCarTracks' OpenAPI document with the names that its last positions are read by."""
    try:
        names = property_names(json.loads(asyncio.run(_read(document))))
    except (OSError, ValueError, aiohttp.ClientError, TimeoutError) as error:
        raise typer.BadParameter(f"{document} could not be read as JSON ({type(error).__name__})") from error
    if names is None:
        typer.echo(f"{document} has no GET of {_PATH}", err=True)
        raise typer.Exit(1)
    lines, complete = verdict(names)
    typer.echo("\n".join(lines))
    if not complete:
        typer.echo("a field that a position needs has another name; add it to the table in payload.py", err=True)
        raise typer.Exit(1)


def _names(document: Any, node: Any, depth: int) -> Iterator[str]:
    """The names of all properties below a schema, references followed (a cycle ends at the depth)."""
    if depth == 0:
        return
    if isinstance(node, list):
        for each in node:
            yield from _names(document, each, depth)
    if not isinstance(node, dict):
        return
    if isinstance(reference := node.get("$ref"), str):
        yield from _names(document, _resolved(document, reference), depth - 1)
    if isinstance(properties := node.get("properties"), dict):
        yield from properties
        yield from _names(document, list(properties.values()), depth - 1)
    for key in ("items", "allOf", "oneOf", "anyOf", "schema"):
        yield from _names(document, node.get(key), depth - 1)
    if isinstance(content := node.get("content"), dict):
        yield from _names(document, list(content.values()), depth - 1)


def _resolved(document: Any, reference: str) -> Any:
    node = document
    for part in reference.removeprefix("#/").split("/"):
        node = node.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
    return node


async def _read(document: str) -> bytes:
    if not document.startswith(("http://", "https://")):
        return await asyncio.to_thread(Path(document).read_bytes)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(document) as answer:
        answer.raise_for_status()
        read = bytearray()
        async for chunk in answer.content.iter_any():
            read += chunk
            if len(read) > _LARGEST:
                raise ValueError("too long")
        return bytes(read)
