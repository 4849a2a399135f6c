"""Display names: which of a profile's fields names a device (vendors' guide on driver display names, seed 001)."""

from __future__ import annotations

from collections.abc import Mapping

DISPLAY_FIELDS = ("full_name", "first_name", "last_name", "nickname", "email", "phone", "client_id")
PUBLIC_FIELDS = ("full_name", "first_name", "last_name", "nickname")
CHAIN = ("full_name", "nickname", "email", "client_id")


def complete(profile: Mapping[str, str | None] | None) -> dict[str, str | None]:
    """The profile with every field present; a missing full name is made of first and last name."""
    known = {field: _text((profile or {}).get(field)) for field in DISPLAY_FIELDS}
    if known["full_name"] is None:
        known["full_name"] = _text(" ".join(part for part in (known["first_name"], known["last_name"]) if part))
    return known


def resolve(profile: Mapping[str, str | None] | None, chosen: str, device_token: str) -> tuple[str, str]:
    """(display value, the field that won); the device token wins under the name `device_token`."""
    known = complete(profile)
    for field in (chosen, *CHAIN):
        value = known.get(field)
        if value is not None:
            return value, field
    return device_token, "device_token"


def public_name(profile: Mapping[str, str | None] | None, chosen: str) -> str | None:
    """The name that strangers may see: the chosen field if it is a name, else the next public name, else None."""
    known = complete(profile)
    order = (chosen, *PUBLIC_FIELDS) if chosen in PUBLIC_FIELDS else PUBLIC_FIELDS
    return next((known[field] for field in order if known[field] is not None), None)


def _text(value: str | None) -> str | None:
    value = value.strip() if value else None
    return value or None
