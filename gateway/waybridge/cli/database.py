"""`waybridge migrate` and `waybridge rotate-keys`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from waybridge.errors import ConfigurationError, StoreUnavailable
from waybridge.store.engine import Store
from waybridge.store.migrate import current
from waybridge.store.migrate import migrate as to_newest
from waybridge.store.sealing import reseal_everything
from waybridge.vault import Vault, VaultError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from waybridge.settings import Settings


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Store]:
    """The database of a configuration. Raises ConfigurationError when it cannot be reached."""
    store = Store(settings.database_url, durability=settings.store.durability)
    await store.start()
    try:
        yield store
    except (StoreUnavailable, OSError) as error:
        raise ConfigurationError(f"the database cannot be used: {error}") from error
    finally:
        await store.close()


async def migrate(settings: Settings) -> str:
    """Upgrades the database; returns what was done, in a sentence."""
    async with opened(settings) as store:
        before, after = await to_newest(store)
    if before == after:
        return f"The database is at the newest schema ({after})."
    return f"The database went from {before or 'nothing'} to {after}."


async def rotate_keys(settings: Settings) -> str:
    """Seals everything again under the first key; it can be stopped and run again at any time."""
    vault = Vault(settings.secrets)
    async with opened(settings) as store:
        revision, head = await current(store)
        if revision != head:
            raise ConfigurationError("the database is not at the newest schema; run waybridge migrate first")
        try:
            count = await reseal_everything(store, vault)
        except VaultError as error:
            raise ConfigurationError(f"some credentials do not open: {error}") from error
    return f"{count} sealed values are now under the first of secret_keys."
