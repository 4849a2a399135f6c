"""Share sessions: links that show one device to a recipient until they end."""

from waybridge.sharing.lifecycle import cancel_for_device, complete_for_device, expire_due
from waybridge.sharing.recipients import Recipients, UnknownLink
from waybridge.sharing.sessions import NewSession, Sharing
from waybridge.sharing.view import Sight, sight

__all__ = [
    "NewSession",
    "Recipients",
    "Sharing",
    "Sight",
    "UnknownLink",
    "cancel_for_device",
    "complete_for_device",
    "expire_due",
    "sight",
]
