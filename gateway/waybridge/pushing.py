"""Inbound requests to connections: the sender's rights, the provider's reading, intake, the answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import structlog

from waybridge.errors import (
    Forbidden,
    Invalid,
    NotFound,
    ProviderError,
    PushRejected,
    StoreUnavailable,
    Unavailable,
)
from waybridge.model import canonical_token, vendor_device_token
from waybridge.provider import Answer, Capabilities, Push, Receipt
from waybridge.settings_tables import DEFAULT_INSTANCE
from waybridge.store.state import StateConflict

if TYPE_CHECKING:
    from waybridge.auth import Principal
    from waybridge.intake import Intake
    from waybridge.roster import Policy, Roster
    from waybridge.runtime import Runtime
    from waybridge.supervisor import Supervisor

log = structlog.get_logger("waybridge.pushing")
NATIVE = "native"
TRIES = 25
"""How often a push is read again because its state changed under it."""
NO_CONNECTION = "there is no such connection"


class Pushing:
    """The inbound side of all connections."""

    def __init__(self, supervisor: Supervisor, intake: Intake, roster: Roster) -> None:
        self._supervisor = supervisor
        self._intake = intake
        self._roster = roster
        self._queues: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def capabilities(self, connection_id: str) -> Capabilities | None:
        """What a connection's provider can do, or None for an unknown connection."""
        if connection_id == NATIVE:
            native = self._supervisor.providers.get(NATIVE)
            return native.capabilities if native is not None else None
        runtime = self._supervisor.runtime(connection_id)
        return runtime.provider.capabilities if runtime is not None else None

    async def push(self, connection_id: str, push: Push, principal: Principal | None) -> Answer:
        """Takes one request in and returns its answer, after the commit.

        Raises PushRejected (the provider's own answer), NotFound, Forbidden, Invalid, StoreUnavailable.
        """
        runtime = self._runtime(connection_id, principal)
        try:
            return await self._try(runtime, push, principal)
        except StateConflict:
            pass
        # Rivals for the same thing go one after the other from here on: each waits for one commit, not for all.
        queue = self._queues.setdefault((connection_id, push.path), asyncio.Lock())
        async with queue:
            for _ in range(TRIES):
                try:
                    return await self._try(runtime, push, principal)
                except StateConflict:
                    continue
        raise Unavailable("too many writers at once for the same thing", retry_after=1)

    async def _try(self, runtime: Runtime, push: Push, principal: Principal | None) -> Answer:
        """Reads the push on the state of now and takes it in. Raises StateConflict when the state changed under it."""
        receipt = await self._receive(runtime, push)
        policy = self._policy(runtime, receipt, principal)
        self._may_write(runtime, policy, receipt, principal)
        outcome = await self._intake.accept(
            policy,
            receipt.reports,
            intents=receipt.intents,
            indexes=receipt.indexes,
            rejected=receipt.rejected,
            device_token=principal.device_token if principal is not None else None,
        )
        return receipt.answer if isinstance(receipt.answer, Answer) else receipt.answer(outcome)

    def _runtime(self, connection_id: str, principal: Principal | None) -> Runtime:
        if connection_id == NATIVE:
            runtimes = [each for each in self._supervisor.runtimes() if each.policy.connection_id == NATIVE]
            if runtimes:
                return runtimes[0]
            raise NotFound(NO_CONNECTION)
        runtime = self._supervisor.runtime(connection_id)
        if runtime is None:
            raise NotFound(NO_CONNECTION)
        if principal is not None and not principal.covers(runtime.policy.instance_id):
            self._refuse(runtime, NotFound(NO_CONNECTION))
        return runtime

    async def _receive(self, runtime: Runtime, push: Push) -> Receipt:
        try:
            return await runtime.provider.receive(push)
        except PushRejected:
            raise
        except StoreUnavailable:
            raise
        except ProviderError as error:
            raise Unavailable(f"the connection cannot take this now: {runtime.redacted(error)}") from error
        except Exception as error:
            log.exception(
                "A provider failed on a push",
                connection=runtime.policy.connection_id,
                error=runtime.redacted(error),
            )
            raise Unavailable("the connection's provider failed; the push was not taken") from None

    def _policy(self, runtime: Runtime, receipt: Receipt, principal: Principal | None) -> Policy:
        if runtime.policy.connection_id != NATIVE:
            return runtime.policy
        instance_id = receipt.instance_id
        if instance_id is None:
            instance_id = _implied(principal)
            if instance_id is None:
                message = "is required: the token covers more than one instance"
                raise Invalid("instance_id is required", errors=[("instance_id", message)])
        if principal is not None and not principal.covers(instance_id):
            raise NotFound("there is no such instance")
        policy = self._roster.policy(instance_id, NATIVE)
        if policy is None or self._supervisor.runtime(NATIVE, instance_id) is None:
            raise NotFound("there is no such instance")
        return policy

    def _may_write(self, runtime: Runtime, policy: Policy, receipt: Receipt, principal: Principal | None) -> None:
        bound = principal.device_token if principal is not None else None
        if bound is None:
            return
        for report in receipt.reports:
            external_id = report.source.external_id
            try:
                allowed = {canonical_token(external_id)}
            except ValueError:
                allowed = set()
            if policy.connection_id != NATIVE:
                allowed.add(vendor_device_token(policy.instance_id, policy.connection_id, external_id))
            source = self._roster.source(policy.instance_id, policy.connection_id, external_id)
            if source is not None:
                allowed.add(source.device.token)
            if bound not in allowed:
                self._refuse(runtime, Forbidden("this token may only write its own device"))

    def _refuse(self, runtime: Runtime, error: Forbidden | NotFound) -> None:
        answer = runtime.provider.capabilities.unauthorized
        if answer is None:
            raise error
        headers = {**answer.headers, **({"Content-Type": answer.content_type} if answer.content_type else {})}
        raise PushRejected(answer.status, answer.body, headers=headers) from error


def _implied(principal: Principal | None) -> str | None:
    """The instance that a token means when a body names none: its only one, else `default`."""
    if principal is None:
        return DEFAULT_INSTANCE
    only = [each for each in principal.instances if each != "*"]
    if len(only) == 1 and "*" not in principal.instances:
        return only[0]
    return DEFAULT_INSTANCE if principal.covers(DEFAULT_INSTANCE) else None
