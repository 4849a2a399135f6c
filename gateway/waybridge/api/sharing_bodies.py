"""What callers send to make and change share sessions, as long as the settings allow."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints, create_model, field_validator

from waybridge.api.bodies import Body, InstanceId, Whole
from waybridge.model import Place, canonical_token
from waybridge.settings_tables import LimitSettings
from waybridge.sharing import NewSession
from waybridge.store.sessions import ShareConfig


class DestinationBody(Body):
    latitude: float = Field(ge=-90, le=90)
    longitude: float = Field(ge=-180, le=180)
    label: str | None = None

    def place(self) -> Place:
        return Place(self.latitude, self.longitude, self.label)


class ShareConfigBody(Body):
    """Only what is sent changes something; the rest keeps its value, or the default in a new session."""

    show_speed: bool = True
    show_heading: bool = True
    show_eta: bool = True
    show_destination_on_map: bool = True
    update_interval_seconds: Whole = Field(default=5, ge=1)


class NewSessionBody(Body):
    device_token: str = Field(min_length=1, max_length=200)
    instance_id: InstanceId | None = None
    expires_in_hours: float = Field(default=24, gt=0)
    recipient_name: str | None = None
    notes: str | None = None
    order_id: str | None = None
    track_token: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    destination: DestinationBody | None = None
    share_config: ShareConfigBody | None = None

    @field_validator("device_token")
    @classmethod
    def _canonical(cls, token: str) -> str:
        return canonical_token(token)

    def session(self) -> NewSession:
        return NewSession(
            device_token=self.device_token,
            hours=self.expires_in_hours,
            recipient_name=self.recipient_name,
            notes=self.notes,
            order_id=self.order_id,
            track_token=self.track_token,
            destination=self.destination.place() if self.destination is not None else None,
            share_config=ShareConfig(**(self.share_config or ShareConfigBody()).model_dump()),
        )


class SessionChangeBody(Body):
    """`share_config` merges, the others replace, null clears; `expires_in_hours` counts from now."""

    destination: DestinationBody | None = None
    share_config: ShareConfigBody | None = None
    notes: str | None = None
    recipient_name: str | None = None
    order_id: str | None = None
    expires_in_hours: float | None = Field(default=None, gt=0)

    @field_validator("expires_in_hours")
    @classmethod
    def _given(cls, hours: float | None) -> float:
        if hours is None:
            raise ValueError("must be a number")
        return hours

    def changes(self) -> dict[str, Any]:
        """What was sent, by name, for Sharing.change."""
        found: dict[str, Any] = {name: getattr(self, name) for name in self.model_fields_set}
        if self.destination is not None:
            found["destination"] = self.destination.place()
        if self.share_config is not None:
            found["share_config"] = self.share_config.model_dump(exclude_unset=True)
        return found


def sized(limits: LimitSettings) -> tuple[type[NewSessionBody], type[SessionChangeBody]]:
    """The bodies of POST and PATCH with the lengths and ranges of the settings."""

    def text(longest: int) -> Any:
        return (Annotated[str, StringConstraints(max_length=longest)] | None, None)

    destination = create_model("DestinationBody", __base__=DestinationBody, label=text(limits.label_length))
    interval = Field(default=5, ge=1, le=limits.update_interval_seconds)
    config = create_model("ShareConfigBody", __base__=ShareConfigBody, update_interval_seconds=(Whole, interval))
    common: dict[str, Any] = {
        "recipient_name": text(limits.recipient_name_length),
        "notes": text(limits.notes_length),
        "order_id": text(limits.order_id_length),
        "destination": (destination | None, None),
        "share_config": (config | None, None),
    }
    hours: Any = {"gt": 0, "le": limits.share_hours}
    default = min(24.0, limits.share_hours)
    return (
        create_model(
            "NewSessionBody",
            __base__=NewSessionBody,
            expires_in_hours=(float, Field(default=default, **hours)),
            **common,
        ),
        create_model(
            "SessionChangeBody",
            __base__=SessionChangeBody,
            expires_in_hours=(float | None, Field(default=None, **hours)),
            **common,
        ),
    )
