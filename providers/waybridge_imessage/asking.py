"""Asking a person to share: one prompt on a phone, so never sent twice for one call."""

from __future__ import annotations

import contextlib
import uuid
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from waybridge import Asked, AskRefused, CredentialsRejected, SourceUnavailable
from waybridge_imessage import shares
from waybridge_imessage.linq import Refused
from waybridge_imessage.polling import CHECK
from waybridge_imessage.webhook import CHANGED, chat_intents, chat_key, person_key
from waybridge_imessage.wire import is_chat_id, normalise_handle

if TYPE_CHECKING:
    from waybridge import ProviderContext, SourceKey
    from waybridge_imessage.linq import Linq
    from waybridge_imessage.settings import IMessageSettings

GROUP, SERVICE, UNAVAILABLE = 2016, 2017, 2013
ALREADY_SHARING = "already sharing"
REASONS = {
    GROUP: "group chats cannot be asked to share (Linq 2016, GroupChatNotSupported)",
    SERVICE: "only iMessage chats can be asked to share (Linq 2017, ChatServiceNotSupported)",
    UNAVAILABLE: "the chat is unavailable (Linq 2013)",
}


def asked_key(chat: str) -> str:
    """`asked/{chat}` -> {"at": ISO} or {"unsupported": reason}."""
    return f"asked/{chat}"


class Asker:
    """Prompts a chat's person. What is asked is a chat; a source is a handle, whose chat the state remembers."""

    def __init__(self, settings: IMessageSettings, context: ProviderContext, linq: Linq) -> None:
        self._settings = settings
        self._context = context
        self._linq = linq

    async def ask(self, target: str) -> Asked:
        """Raises AskRefused, SourceUnavailable (with `retry_after` on 429), CredentialsRejected."""
        chat = await self._chat(target)
        state = self._context.state
        kept = await state.get(asked_key(chat))
        if isinstance(kept, dict) and kept.get("unsupported"):
            raise AskRefused(str(kept["unsupported"]))
        try:
            await self._linq.request_location(chat)
        except Refused as refusal:
            raise await self._refusal(chat, refusal) from refusal
        await state.put(asked_key(chat), {"at": self._context.clock.now().isoformat()})
        handle = await self._person(chat)
        return Asked(None if handle is None else self._context.source(handle))

    async def behind(self, chat: str) -> list[SourceKey] | None:
        """The people of a chat as far as they are known; None for a chat that we know nothing of."""
        known = await self._context.state.get(chat_key(chat)) if is_chat_id(chat) else None
        if isinstance(known, dict):
            return [self._context.source(handle) for handle in known["handles"]]
        return [] if chat in self._settings.chats else None

    async def _chat(self, target: str) -> str:
        """The chat to ask in: the target itself, or the chat of the person that it names."""
        handle = normalise_handle(target)
        if handle is not None and (handle.lstrip("+").isdigit() or "@" in handle):
            chat = await self._chat_of(handle)
            if chat is None:
                raise AskRefused("no chat with this person is known: ask by the chat's id", unknown=True)
            return chat
        if not is_chat_id(target):
            raise AskRefused("what is asked must be a chat's id or a known handle", unknown=True)
        return target

    async def _chat_of(self, handle: str) -> str | None:
        person = shares.load(await self._context.state.get(person_key(handle)))
        members = {
            key.removeprefix("chat/"): value["handles"]
            for key, value in (await self._context.state.items("chat/")).items()
            if isinstance(value, dict) and handle in value["handles"]
        }
        alone = sorted(chat for chat, handles in members.items() if len(handles) == 1)
        return next(iter([*sorted(person.chats), *alone, *sorted(members)]), None)

    async def _refusal(self, chat: str, refusal: Refused) -> AskRefused:
        """The vendor's refusal in our words; three refusals share its 409."""
        if refusal.code in (GROUP, SERVICE):
            reason = REASONS[refusal.code]
            await self._context.state.put(asked_key(chat), {"unsupported": reason})
            return AskRefused(reason)
        if refusal.code == UNAVAILABLE:
            return AskRefused(REASONS[UNAVAILABLE])
        if refusal.status == HTTPStatus.CONFLICT and await self._shares_now(chat):
            await self._context.state.put(f"{CHECK}{chat}", value=True)
            await self._context.state.put(CHANGED, uuid.uuid4().hex)
            return AskRefused(ALREADY_SHARING, already_sharing=True)
        unknown = refusal.status == HTTPStatus.NOT_FOUND
        return AskRefused(refusal.message or f"Linq refuses with {refusal.status}", unknown=unknown)

    async def _shares_now(self, chat: str) -> bool:
        """Whether somebody of the chat shares: a read shows a person, or a webhook told of one."""
        with contextlib.suppress(SourceUnavailable, CredentialsRejected, Refused):
            if (await self._linq.location(chat)).features:
                return True
        known = await self._context.state.get(chat_key(chat))
        handles: list[Any] = known["handles"] if isinstance(known, dict) else []
        people = [shares.load(await self._context.state.get(person_key(handle))) for handle in handles]
        return any(chat in person.chats for person in people)

    async def _person(self, chat: str) -> str | None:
        """Who was asked: remembered, else looked up; None where the vendor does not tell."""
        known = await self._context.state.get(chat_key(chat))
        if isinstance(known, dict) and len(known["handles"]) == 1:
            return str(known["handles"][0])
        try:
            people = await self._linq.people(chat)
        except (SourceUnavailable, CredentialsRejected, Refused) as error:
            self._context.log.info("Who is behind a chat could not be looked up", error=type(error).__name__)
            return None
        if len(people) != 1:
            return None
        for intent in chat_intents(chat, known, people[0]):
            await self._context.state.put(intent.key, intent.value)
        return people[0]
