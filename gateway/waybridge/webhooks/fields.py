"""What a caller may say about a subscription, checked as text; the address itself is checked by the egress rules."""

from __future__ import annotations

from typing import Annotated, TypeAlias, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from waybridge.model import StartCause, StopCause, canonical_token

CAUSES = frozenset(get_args(StartCause)) | frozenset(get_args(StopCause))


def _cause(text: str) -> str:
    if text not in CAUSES:
        raise ValueError(f"must be one of {', '.join(sorted(CAUSES))}")
    return text


Tokens: TypeAlias = Annotated[list[Annotated[str, AfterValidator(canonical_token)]], Field(max_length=1000)]
GroupIds: TypeAlias = Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=200)]],
                                Field(max_length=100)]  # fmt: skip
Causes: TypeAlias = Annotated[list[Annotated[str, AfterValidator(_cause)]], Field(max_length=50)]
Numbers: TypeAlias = Annotated[list[Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{1,14}$")]],
                               Field(max_length=1000)]  # fmt: skip
EventNames: TypeAlias = Annotated[list[Annotated[str, StringConstraints(min_length=1, max_length=100)]],
                                  Field(min_length=1, max_length=200)]  # fmt: skip
TargetUrl: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=2048)]


class Filters(BaseModel):
    """The filters of a subscription: null or an empty list lets everything through."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    device_tokens: Tokens | None = Field(default=None, description="Only events about these devices (or groups).")
    groups: GroupIds | None = Field(default=None, description="Only events about devices of these groups.")
    causes: Causes | None = Field(default=None, description="Only events with one of these causes.")
    phone_numbers: Numbers | None = Field(
        default=None, description="Of the sharing events that name a line, only those of these lines (E.164)."
    )
    is_active: bool = Field(default=True, description="False: nothing is sent, and what waits is dropped.")


class NewFields(Filters):
    """What creates a subscription."""

    target_url: TargetUrl = Field(description="Where events are posted to.")
    subscribed_events: EventNames = Field(description="Names of events, or wildcards like `device.*`.")


class ChangedFields(Filters):
    """What changes a subscription: fields that are left out stay as they are."""

    target_url: TargetUrl = Field(default="", description="Where events are posted to.")
    subscribed_events: EventNames = Field(default=[], description="Names of events, or wildcards like `device.*`.")
