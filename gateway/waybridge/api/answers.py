"""The shapes of answers, for the API's description; handlers answer plain dictionaries of the same keys."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Moment = Annotated[int | str, Field(description="Unix seconds, or text in the asked `date_format`.")]


class Answer(BaseModel):
    """The base of answers. More keys may come; clients ignore what they do not know."""

    model_config = ConfigDict(extra="allow")


class Profile(Answer):
    first_name: str | None
    last_name: str | None
    full_name: str | None
    nickname: str | None
    email: str | None
    phone: str | None
    client_id: str | None


class Position(Answer):
    device_token: str
    latitude: float
    longitude: float
    speed: float | None = Field(description="m/s")
    heading: float | None = Field(description="degrees clockwise from north")
    accuracy: float | None = Field(description="metres")
    altitude: float | None = Field(description="metres")
    timestamp: Moment
    address: str | None
    locality: str | None
    battery: float | None = Field(description="0 to 1")
    track_token: str | None
    provider: str | None
    online: bool
    sharing: bool
    stale: bool
    age_seconds: int
    time_suspect: bool


class DevicePosition(Position):
    """With `instance_id` also the names."""

    display_identifier: str | None = None
    display_field: str | None = None
    driver_profile: Profile | None = None


class SourceKey(Answer):
    connection_id: str
    external_id: str


class DeviceSource(SourceKey):
    provider: str


class TripSummary(Answer):
    track_token: str
    started_at: Moment
    status: Literal["active", "completed"]


class DeviceItem(Answer):
    device_token: str
    display_identifier: str
    provider: str | None
    online: bool
    sharing: bool
    stale: bool
    age_seconds: int | None
    position: Position | None
    trip: TripSummary | None
    sources: list[DeviceSource]


class Page(Answer):
    total: int
    limit: int
    offset: int


class DevicePage(Page):
    devices: list[DeviceItem]


class TrackPoint(Answer):
    latitude: float
    longitude: float
    altitude: float | None
    speed: float | None
    heading: float | None
    accuracy: float | None
    timestamp: Moment


class Track(Answer):
    device_token: str
    track_token: str | None
    started_at: Moment | None
    ended_at: Moment | None
    count: int
    truncated: bool
    points: list[TrackPoint]


class Spot(Answer):
    latitude: float
    longitude: float


class Stats(Answer):
    device_token: str
    track_token: str | None
    status: Literal["active", "completed"] | None
    started_at: Moment | None
    ended_at: Moment | None
    distance_m: float
    duration_s: float
    moving_s: float
    average_speed: float | None
    max_speed: float | None
    points_count: int
    start: Spot | None
    end: Spot | None


class Metadata(Answer):
    device_token: str
    display_field: str
    display_value: str
    resolved_field: str
    profile: Profile | None
    updated_at: Moment | None


class MetadataPage(Page):
    devices: list[Metadata]


class Failure(Answer):
    device_token: Any
    error: str


class Updated(Answer):
    updated: int
    failed: list[Failure]


class Refreshed(Answer):
    refreshed: int
    failed: list[Failure]


class FeatureCollection(Answer):
    type: Literal["FeatureCollection"]
    features: list[dict[str, Any]]


class ExplainedSource(DeviceSource):
    rank: int
    fallback_after: float
    age_seconds: float | None
    fresh: bool
    fresh_for_seconds: float | None
    sharing: bool
    winner: bool


class Sources(Answer):
    device_token: str
    hold: float
    winner: SourceKey | None
    rule: str
    sources: list[ExplainedSource]


class Asked(Answer):
    status: Literal["requested"]


class Erased(Answer):
    device_token: str
    erased: Literal[True]


class Group(Answer):
    group_id: str
    instance_id: str
    name: str | None
    device_tokens: list[str]
    created_at: int
    updated_at: int


class GroupPage(Page):
    groups: list[Group]


class Instance(Answer):
    id: str
    instance_id: str
    name: str | None
    embed_origins: list[str]
    brand: dict[str, str]
    origin: Literal["toml", "api"]
    created_at: str | None
    updated_at: str | None


class InstancePage(Page):
    instances: list[Instance]


class Client(Answer):
    client_id: str
    name: str
    instances: list[str]
    scope: str
    created_at: str


class NewClient(Client):
    client_secret: str = Field(description="Shown this once.")


class ClientPage(Page):
    clients: list[Client]


class Token(Answer):
    access_token: str
    token_type: Literal["bearer"]
    expires_in: int
    scope: str


class TokenRefusal(Answer):
    error: str
    error_description: str | None = None


class Rejection(Answer):
    index: int
    field: str
    error: str


class Taken(Answer):
    accepted: int
    duplicates: int
    rejected: list[Rejection]


class Connection(Answer):
    connection_id: str
    provider: str
    instance_id: str
    origin: Literal["toml", "api"]
    settings: dict[str, Any] = Field(description='Secrets as "***".')
    state: Literal["starting", "running", "idle", "retrying", "rejected", "failed", "stopped"]
    since: str | None
    last_error: str | None
    last_position_at: str | None


class ConnectionPage(Page):
    connections: list[Connection]


class Checked(Answer):
    ok: bool
    detail: str


class Node(Answer):
    node_id: str
    name: str
    version: str
    started_at: str
    seen_at: str


class NodePage(Page):
    nodes: list[Node]


class Health(Answer):
    status: str
    version: str


class Ready(Health):
    checks: dict[str, Any]
