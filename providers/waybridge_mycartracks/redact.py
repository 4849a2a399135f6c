"""What may be said about a vendor's answer: never a credential, a token or a socket address."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST: Final = 512
_SHORTEST: Final = 4  # what is shorter is no secret, and would strike out half of every word
_TOKENS: Final = (
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=:-]+"), r"\1 ***"),
    (
        re.compile(r"(?i)(\"?\b(?:\w*token|\w*secret|client_id|password)\b\"?\s*[=:]\s*)(\"[^\"]*\"?|[^\s\"&,;}]+)"),
        r"\1***",
    ),
    (re.compile(r"(?i)\b(wss?|https?)://[^\s\"'<>]+"), r"\1://***"),
)


def excerpt(body: bytes, secrets: Iterable[str] = ()) -> str:
    """The beginning of an error answer, at most 512 characters, printable, with secrets struck out.

    Struck out before it is cut, so that no half of a secret is left at the end.
    """
    return clean(body[: 4 * _LONGEST].decode("utf-8", "replace"), secrets)


def clean(said: str, secrets: Iterable[str] = ()) -> str:
    """A text without the given secrets and anything that looks like one."""
    for secret in secrets:
        if len(secret) >= _SHORTEST:
            said = said.replace(secret, "***")
    for pattern, instead in _TOKENS:
        said = pattern.sub(instead, said)
    return "".join(c if c.isprintable() else " " for c in said)[:_LONGEST].strip()
