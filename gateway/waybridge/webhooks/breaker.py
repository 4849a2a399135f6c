"""How many requests a target may have at once, and when it is left alone for a while (a breaker per target)."""

from __future__ import annotations

from dataclasses import dataclass

from waybridge.webhooks.schedule import SECOND_US

FAILURES = 5
"""Failures in a row that open a breaker."""
OPEN_US = 30 * SECOND_US
"""How long an open breaker keeps everything back; then one request is let through to see."""


@dataclass(slots=True)
class _Target:
    running: int = 0
    failures: int = 0
    open_until_us: int = 0


class Targets:
    """What this process knows of its targets; nothing that a restart must not forget.

    A target is a whole URL: behind one host may stand many receivers, which must not suffer for each other.
    Only attempts are kept back, their order and number stay as they are.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._targets: dict[str, _Target] = {}

    def free(self, target: str, now_us: int) -> int:
        """How many more requests may begin now: one while a breaker is half open, none while it is open."""
        known = self._targets.get(target)
        if known is None:
            return self._at_once
        if known.failures >= FAILURES:
            return 0 if now_us < known.open_until_us or known.running else 1
        return max(0, self._at_once - known.running)

    def begin(self, target: str) -> None:
        self._targets.setdefault(target, _Target()).running += 1

    def end(self, target: str, now_us: int, *, well: bool) -> None:
        """A request ended; `well` closes the breaker, a failure may open it (again)."""
        known = self._targets[target]
        known.running -= 1
        if well:
            known.failures = 0
        else:
            known.failures += 1
            if known.failures >= FAILURES:
                known.open_until_us = now_us + OPEN_US
        if not known.running and not known.failures:
            del self._targets[target]

    def forget(self, target: str) -> None:
        """A request was broken off: it says nothing about its target."""
        self._targets[target].running -= 1

    def open(self, now_us: int) -> int:
        """How many targets are being left alone."""
        return sum(each.failures >= FAILURES and now_us < each.open_until_us for each in self._targets.values())
