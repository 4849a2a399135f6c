"""Webhooks: events of the outbox, delivered to whoever subscribed, signed, at least once (contract section 11)."""

from waybridge.webhooks.service import Webhooks

__all__ = ["Webhooks"]
