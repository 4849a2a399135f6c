"""The native push for the API's description; what really reads it is the native provider, item by item."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from waybridge.api.bodies import InstanceId


class NativePosition(BaseModel):
    """One position of a native device. Unknown fields are ignored."""

    model_config = ConfigDict(extra="allow")

    device_token: Annotated[str, Field(min_length=1, max_length=200)]
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
    timestamp: float | str = Field(description="Unix seconds, or ISO 8601 with a zone.")
    speed: float | None = Field(default=None, description="m/s")
    heading: float | None = Field(default=None, description="degrees clockwise from north")
    accuracy: float | None = Field(default=None, description="metres")
    altitude: float | None = Field(default=None, description="metres")
    battery: float | None = Field(default=None, description="0 to 1")
    track_token: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    attributes: dict[str, Any] | None = None


class NativeSingle(NativePosition):
    """A position on its own."""

    instance_id: InstanceId | None = None


class NativeBatch(BaseModel):
    """Many positions at once."""

    model_config = ConfigDict(extra="allow")

    instance_id: InstanceId | None = None
    positions: Annotated[list[NativePosition], Field(min_length=1, max_length=1000)]
