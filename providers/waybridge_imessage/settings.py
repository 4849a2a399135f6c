"""The settings of a connection with a Linq account."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr, StringConstraints
from yarl import URL

from waybridge import ProviderSettings

ChatId = Annotated[str, StringConstraints(min_length=1, max_length=150)]


def _bearer(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("must be printable ASCII without blanks")
    return value


def _address(value: str) -> str:
    url = URL(value)
    if url.scheme not in ("http", "https") or not url.host or url.user or url.query_string or url.fragment:
        raise ValueError("must be an http or https address without user, query and fragment")
    return value.rstrip("/")


def _signing_secret(value: SecretStr | None) -> SecretStr | None:
    if value is None:
        return None
    try:
        text = value.get_secret_value().removeprefix("whsec_").rstrip("=")
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        key = b""
    if not key:
        raise ValueError("must be whsec_ and base64, as the vendor showed it once")
    return value


class IMessageSettings(ProviderSettings):
    """`chats`: chats that are read at start and every ten minutes even before anything is heard of them.

    `poll_interval_seconds`: between two reads of a chat in which somebody shares. `subscribe`: register our own
    callback at the vendor, for `phone_numbers` only where given. `lapse_after`: seconds after which a share whose
    reads stay empty has ended. `stop_on_cancel`: when the last share session of a person is cancelled, end the
    person's sharing at the vendor, which ends it in every chat.
    """

    api_key: Annotated[SecretStr, AfterValidator(_bearer)]
    base_url: Annotated[str, AfterValidator(_address)] = "https://api.linqapp.com/api/partner"
    chats: tuple[ChatId, ...] = ()
    poll_interval_seconds: float = Field(default=180.0, ge=1)
    webhook_signing_secret: Annotated[SecretStr | None, AfterValidator(_signing_secret)] = None
    subscribe: bool = False
    phone_numbers: tuple[str, ...] = ()
    lapse_after: float = Field(default=1800.0, gt=0)
    stop_on_cancel: bool = False
