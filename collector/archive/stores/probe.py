"""The probe of a store at start: does it create once, and are all rights there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collector.errors import NotThere, StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collector.archive.stores import Store

FOLDER = "_archive/probe"
PATH = f"{FOLDER}/create-only"
"""The one object that probes leave, as nothing is ever removed from an archive."""
CONTENT = b"This object was created to see whether the store creates an object only once. It may stay.\n"


async def probe(store: Store) -> None:
    """Raise StoreRefused when a store cannot keep an archive, with all that is missing, and StoreUnavailable."""
    missing: list[str] = []
    for ask in (_create, _read, _list):
        try:
            await ask(store)
        except StoreRefused as exc:
            missing.append(str(exc))
        except StoreUnavailable:
            if not missing:
                raise
        except NotThere as exc:
            if not missing:  # else it may not create
                missing.append(f"{exc}, and its creation was answered just now: use a store that is consistent")
    if missing:
        raise StoreRefused("; ".join(dict.fromkeys(missing)))


async def _create(store: Store) -> None:
    if await store.create(PATH, CONTENT) and await store.create(PATH, CONTENT):
        raise StoreRefused(
            f"expected {store.where} to refuse a second object under {PATH}, but it took both: it ignores"
            " conditions, and two replicas would overwrite each other's blocks; use another store, or a release of it"
            " with conditional writes"
        )


async def _read(store: Store) -> None:
    content = await store.read(PATH)
    if content != CONTENT:
        raise StoreRefused(
            f"expected {store.where} to give {PATH} as it was created, got {len(content)} other bytes: another process"
            " writes there, or something on the way changes what is stored; give the archive a place of its own"
        )


async def _list(store: Store) -> None:
    if PATH not in await store.after(FOLDER, ""):
        raise NotThere(f"the list of {store.where}", PATH)
