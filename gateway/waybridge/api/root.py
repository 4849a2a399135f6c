"""What lives at the site's root, beside the prefixes: health, tokens, ingest, the description and its page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web
from pydantic.json_schema import models_json_schema

from waybridge.api import answers, openapi
from waybridge.api.clients import ClientApi
from waybridge.api.cors import CrossOrigin
from waybridge.api.ingest import IngestApi
from waybridge.api.ingest_live import LiveIngest
from waybridge.api.ingest_shapes import NativeBatch, NativeSingle
from waybridge.api.openapi import REF
from waybridge.api.operations import Dispatcher, Operation
from waybridge.api.pages import mount_pages
from waybridge.api.problems import CONTENT_TYPE
from waybridge.api.server import mount
from waybridge.api.service import ServiceApi

_FORM = {
    "type": "object",
    "properties": {
        "grant_type": {"type": "string", "const": "client_credentials"},
        "client_id": {"type": "string"},
        "client_secret": {"type": "string"},
        "scope": {"type": "string"},
    },
}


def mount_root(
    app: web.Application,
    operations: Sequence[Operation],
    *,
    dispatcher: Dispatcher,
    cross_origin: CrossOrigin,
    service: ServiceApi,
    clients: ClientApi,
    ingest: IngestApi,
    live: LiveIngest,
    version: str,
    base_url: str,
    prefix: str = "/api/v1",
) -> None:
    """Adds everything at the root. `operations` are those below `prefix`, for the description."""
    at_root = [*service.operations(), *clients.root_operations()]
    mount(app, at_root, dispatcher=dispatcher, cross_origin=cross_origin, prefixes=[""])
    live.mount(app)
    ingest.mount(app)
    description = describe(operations, at_root, version=version, base_url=base_url, prefix=prefix)
    mount_pages(app, description)


def describe(
    operations: Sequence[Operation], at_root: Sequence[Operation], *, version: str, base_url: str, prefix: str
) -> dict[str, Any]:
    """The whole description, with the root's requests that are no JSON of ours."""
    described = openapi.describe(operations, version=version, base_url=base_url, prefix=prefix, root=at_root)
    token = described["paths"]["/oauth/token"]["post"]
    token["requestBody"] = {"required": False, "content": {"application/x-www-form-urlencoded": {"schema": _FORM}}}
    for status in ("400", "401"):
        token["responses"][status]["description"] = "Refused, as RFC 6749 says it."
    described["paths"]["/ingest/native/positions"] = {"post": _native(described["components"]["schemas"])}
    described["x-websockets"]["/ingest/native/live"] = {
        "summary": "Native pushes, acknowledged in order once stored",
        "tag": "Ingest",
        "description": 'First {"type": "authenticate", "jwt": "..."}, then a frame per body of the HTTP endpoint.',
    }
    described["tags"].append({"name": "Ingest"})
    return described


def _native(schemas: dict[str, Any]) -> dict[str, Any]:
    refs, definitions = models_json_schema(
        [(NativeSingle, "validation"), (NativeBatch, "validation"), (answers.Taken, "serialization")], ref_template=REF
    )
    schemas.update(definitions["$defs"])
    problem = {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    refused = {
        "400": "Not JSON.", "401": "No token, or one that is not valid.", "404": "No such instance.",
        "403": "The token lacks the scope, or is bound to another device.", "408": "The body did not arrive in time.",
        "413": "Larger than 1 MiB.", "415": "Not JSON.", "503": "The database does not answer.",
    }  # fmt: skip
    taken = {"application/json": {"schema": refs[answers.Taken, "serialization"]}}
    single, batch = refs[NativeSingle, "validation"], refs[NativeBatch, "validation"]
    responses: dict[str, Any] = {status: {"description": text, "content": problem} for status, text in refused.items()}
    responses["200"] = {"description": "Stored; what was refused is named.", "content": taken}
    responses["422"] = {
        "description": "Every item was refused, or the body as a whole.",
        "content": {**taken, **problem},
    }
    return {
        "summary": "Push positions of native devices",
        "tags": ["Ingest"],
        "operationId": "post_ingest_native_positions",
        "security": [{"bearer": []}],
        "x-scope": "ingest",
        "requestBody": {"required": True, "content": {"application/json": {"schema": {"anyOf": [single, batch]}}}},
        "responses": dict(sorted(responses.items())),
    }
