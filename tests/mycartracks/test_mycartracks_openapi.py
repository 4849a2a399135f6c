"""The comparison of the vendor's OpenAPI document with our table of names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from waybridge_mycartracks import waybridge_commands
from waybridge_mycartracks.openapi import property_names, verdict

if TYPE_CHECKING:
    from pathlib import Path


def document(row: dict[str, Any], path: str = "/services/rest/v3/vehicles/lastPositions") -> dict[str, Any]:
    page = {"properties": {"data": {"type": "array", "items": {"$ref": "#/components/schemas/Row"}}, "total": {}}}
    answer = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Page"}}}}
    return {
        "paths": {path: {"get": {"responses": {"200": answer, "401": {"description": "no"}}}}},
        "components": {"schemas": {"Page": page, "Row": row}},
    }


GOOD = {
    "properties": {
        "id": {"type": "integer"},
        "lastPosition": {"allOf": [{"properties": {"lat": {}, "lng": {}, "timestamp": {}, "satellites": {}}}]},
    }
}


def invoke(*arguments: str) -> Any:
    cli, simulate = typer.Typer(), typer.Typer()
    waybridge_commands(cli, simulate)
    cli.add_typer(simulate, name="simulate")
    return CliRunner().invoke(cli, ["mycartracks-openapi", *arguments])


def test_names_are_collected_through_references_and_nesting() -> None:
    names = property_names(document(GOOD))

    assert names == {"data", "total", "id", "lastPosition", "lat", "lng", "timestamp", "satellites"}
    assert verdict(names)[1]


def test_a_schema_that_contains_itself_ends() -> None:
    endless = {"properties": {"id": {}, "parent": {"$ref": "#/components/schemas/Row"}}}
    assert property_names(document(endless)) == {"data", "total", "id", "parent"}


def test_the_command_says_what_is_read_and_what_is_not(tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    file.write_text(json.dumps(document(GOOD)))

    answer = invoke(str(file))

    assert answer.exit_code == 0
    assert "latitude: read from lat" in answer.output
    assert "speed: not found" in answer.output
    assert "not read: satellites" in answer.output


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (json.dumps(document({"properties": {"id": {}, "breadth": {}}})), 1, "has another name"),
        (json.dumps(document(GOOD, path="/somewhere")), 1, "has no GET"),
        ("[]", 1, "has no GET"),
        ("{not json", 2, "could not be read"),
    ],
)
def test_trouble_is_said_with_an_exit_code(tmp_path: Path, text: str, code: int, said: str) -> None:
    file = tmp_path / "openapi.json"
    file.write_text(text)

    answer = invoke(str(file))

    assert answer.exit_code == code
    assert said in answer.output


def test_a_missing_file_is_wrong_usage() -> None:
    assert invoke("/nowhere/openapi.json").exit_code == 2
