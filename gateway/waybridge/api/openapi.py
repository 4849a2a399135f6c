"""OpenAPI 3.1, made from the operations and the same models that validate their requests."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from waybridge.api.operations import Operation
from waybridge.api.problems import CONTENT_TYPE, title

REF = "#/components/schemas/{model}"
INSTANCE = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
_RULES = {
    "400": "Not JSON, or a request that cannot be read.",
    "401": "No token, or one that is not valid.",
    "403": "The token lacks the scope.",
    "404": "No such object in an instance that the token covers.",
    "405": "Another method.",
    "408": "The request did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is not JSON in UTF-8.",
    "422": "A field or parameter is not valid; `errors` names each.",
    "503": "The database does not answer; try again after `Retry-After` seconds.",
}
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}


def describe(
    operations: Sequence[Operation],
    *,
    version: str,
    base_url: str,
    prefix: str = "/api/v1",
    root: Sequence[Operation] = (),
    extra_paths: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The description of operations below `prefix` and of those at the site's root; WebSockets are listed beside."""
    schemas, refs = _schemas([*operations, *root])
    schemas["Problem"] = _PROBLEM
    paths: dict[str, dict[str, Any]] = {}
    sockets: dict[str, Any] = {}
    for operation, path in [(each, prefix + each.path) for each in operations] + [(each, each.path) for each in root]:
        if operation.websocket:
            sockets[path] = {"summary": operation.summary, "tag": operation.tag, "description": operation.description}
            continue
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, path, refs)
    paths.update(extra_paths or {})
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Waybridge",
            "version": version,
            "description": "Positions of every provider's devices in one model: read them, share them, stream them.",
        },
        "servers": [{"url": base_url}],
        "tags": [{"name": tag} for tag in dict.fromkeys(each.tag for each in [*operations, *root])],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "x-websockets": sockets,
    }


class _Schemas(GenerateJsonSchema):
    """Leaves out titles: they repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False


_Refs = dict[tuple[Any, str], dict[str, Any]]


def _schemas(operations: Sequence[Operation]) -> tuple[dict[str, Any], _Refs]:
    wanted: dict[tuple[type[BaseModel], Any], None] = {}
    for operation in operations:
        if operation.body is not None:
            wanted[operation.body, "validation"] = None
        for model in operation.answers.values():
            if model is not None:
                wanted[model, "serialization"] = None
    refs, definitions = models_json_schema(list(wanted), ref_template=REF, schema_generator=_Schemas)
    return dict(definitions.get("$defs", {})), {key: dict(ref) for key, ref in refs.items()}


def _operation(operation: Operation, path: str, refs: _Refs) -> dict[str, Any]:
    described: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [operation.tag],
        "operationId": _operation_id(operation),
        "parameters": [*_path_parameters(path), *_query_parameters(operation)],
        "responses": _responses(operation, refs),
    }
    if operation.description:
        described["description"] = operation.description
    if operation.scope is not None:
        described["security"] = [{"bearer": []}]
        described["x-scope"] = operation.scope
    if operation.body is not None:
        described["requestBody"] = {
            "required": operation.body_required,
            "content": {"application/json": {"schema": refs[operation.body, "validation"]}},
        }
    return described


def _operation_id(operation: Operation) -> str:
    return re.sub(r"[^a-z0-9]+", "_", f"{operation.method} {operation.path}".lower()).strip("_")


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1, "maxLength": 64 if name == "connection_id" else 200},
        }
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(operation: Operation) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    if operation.instance != "none":
        parameters.append(
            {
                "name": "instance_id",
                "in": "query",
                "required": operation.instance == "query",
                "description": "In the body instead, if it is named there." * (operation.instance == "body_or_query"),
                "schema": INSTANCE,
            }
        )
    if operation.query is None:
        return parameters
    schema = operation.query.model_json_schema(ref_template=REF, schema_generator=_Schemas)
    for name, about in schema.get("properties", {}).items():
        if name == "instance_id":
            continue
        shape = _without_null(about)
        parameter: dict[str, Any] = {
            "name": name, "in": "query", "required": name in schema.get("required", ()), "schema": shape,
        }  # fmt: skip
        if "description" in shape:
            parameter["description"] = shape.pop("description")
        if shape.get("type") == "array":
            parameter |= {"style": "form", "explode": False}
        parameters.append(parameter)
    return parameters


def _without_null(about: Mapping[str, Any]) -> dict[str, Any]:
    """A query has no null: what may be left out is just not there."""
    shape = dict(about)
    if shape.get("default", 0) is None:
        del shape["default"]
    kinds = shape.pop("anyOf", None)
    if kinds is not None:
        left = [kind for kind in kinds if kind != {"type": "null"}]
        shape |= left[0] if len(left) == 1 else {"anyOf": left}
    return shape


def _responses(operation: Operation, refs: _Refs) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, model in operation.answers.items():
        responses[str(status)] = _response(operation, status, model, refs)
    for implied in _implied(operation):
        responses.setdefault(implied, _problem(_RULES[implied]))
    return dict(sorted(responses.items()))


def _response(operation: Operation, status: int, model: type[BaseModel] | None, refs: _Refs) -> dict[str, Any]:
    if status >= 400 and model is None:
        return _problem(title(status))
    content: dict[str, Any] = {}
    if model is not None:
        kinds = ("application/json", *operation.content_types)
        if "application/geo+json" in operation.content_types and len(operation.content_types) == 1:
            kinds = operation.content_types
        for kind in kinds:
            json_like = kind == kinds[0]
            content[kind] = {"schema": refs[model, "serialization"] if json_like else _loose(kind)}
    described: dict[str, Any] = {"description": title(status)}
    if content:
        described["content"] = content
    elif operation.content_types and status < 300:
        described["content"] = {kind: {"schema": _loose(kind)} for kind in operation.content_types}
    return described


def _loose(kind: str) -> dict[str, Any]:
    return {"type": "object"} if kind.endswith("json") else {"type": "string"}


def _problem(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _implied(operation: Operation) -> list[str]:
    """The answers that follow from the rules."""
    implied = ["400", "404", "408", "413"]
    if operation.scope is not None:
        implied += ["401", "403", "503"]
    if operation.body is not None:
        implied.append("415")
    if operation.body is not None or operation.query is not None or operation.instance != "none":
        implied.append("422")
    if operation.method in ("PUT", "POST", "PATCH"):
        implied.append("422")
    return implied
