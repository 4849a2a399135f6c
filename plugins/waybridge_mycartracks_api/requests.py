"""What callers send, read strictly; refusals carry the status that the gateway answers with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from waybridge import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAST_INTERVAL: Final = 5.0
LARGEST_BODY: Final = 65_536
_LARGEST_ID: Final = 2**53 - 1
_LARGEST_PAGE: Final = 1000
_DEFAULT_LIMIT: Final = 50
_MOST_DIGITS: Final = 9

Number = Annotated[int, Field(ge=1, le=_LARGEST_ID)]
FieldName = Literal[
    "vehicleId",
    "vehicleName",
    "userId",
    "userName",
    "latitude",
    "longitude",
    "speed",
    "heading",
    "recordedAt",
    "receivedAt",
    "onlineState",
]


class NotJson(RequestError):
    status: ClassVar[int] = 400
    title: ClassVar[str] = "Bad Request"


class Unknown(RequestError):
    status: ClassVar[int] = 401
    title: ClassVar[str] = "Unauthorized"


class NotAllowed(RequestError):
    status: ClassVar[int] = 403
    title: ClassVar[str] = "Forbidden"


class TooLong(RequestError):
    status: ClassVar[int] = 413
    title: ClassVar[str] = "Content Too Large"


class Wrong(RequestError):
    status: ClassVar[int] = 422
    title: ClassVar[str] = "Unprocessable Content"


class StreamRequest(BaseModel):
    """The body of a stream request. Neither vehicles nor groups: everything that the caller may see.

    An interval below the least one is raised to it; the answer confirms the one that is used.
    `includeSharedVehicles` is taken and changes nothing: devices are not shared between accounts here.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    vehicleIds: list[Number] | None = Field(default=None, max_length=10_000)  # noqa: N815 - the vendor's names
    vehicleGroupIds: list[Number] | None = Field(default=None, max_length=1_000)  # noqa: N815
    includeSharedVehicles: bool = True  # noqa: N815
    minIntervalSeconds: float = Field(default=LEAST_INTERVAL, ge=0, le=86_400)  # noqa: N815
    fields: list[FieldName] | None = Field(default=None, min_length=1, max_length=100)

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.vehicleIds is not None and self.vehicleGroupIds is not None:
            raise ValueError("send vehicleGroupIds instead of vehicleIds, not both")
        return self

    @property
    def interval(self) -> float:
        """Seconds between two updates of one vehicle."""
        return max(LEAST_INTERVAL, self.minIntervalSeconds)


def stream_request(body: bytes) -> StreamRequest:
    """The stream request in a body; an empty one chooses everything. Raises RequestError (400, 413, 422)."""
    if len(body) > LARGEST_BODY:
        raise TooLong(f"a stream request has at most {LARGEST_BODY} bytes")
    if not body.strip():
        return StreamRequest()
    try:
        said = json.loads(body, object_pairs_hook=_without_doubles, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise NotJson("the body is not JSON") from None
    try:
        return StreamRequest.model_validate(said)
    except ValidationError as error:
        wrong = [(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors(include_url=False)]
        raise Wrong("the stream request is not valid", errors=wrong) from None


def page_request(query: Mapping[str, str]) -> tuple[int, int]:
    """(limit, page) of last positions: at most 1000 rows, pages counted from 0. Raises RequestError (422)."""
    limit = _whole(query, "limit", _DEFAULT_LIMIT, least=1)
    return min(limit, _LARGEST_PAGE), _whole(query, "page", 0, least=0)


def _whole(query: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    said = query.get(name)
    if said is None:
        return default
    if not (said.isascii() and said.isdecimal() and len(said) <= _MOST_DIGITS) or int(said) < least:
        raise Wrong(f"{name} is not valid", errors=[(name, f"must be a whole number from {least} on")])
    return int(said)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def _no_constant(said: str) -> Any:
    raise ValueError(f"{said} is not JSON")
