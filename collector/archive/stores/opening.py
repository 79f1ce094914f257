"""An address and the environment in, a store out. A folder needs nothing installed, and clouds need the extra."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from collector.archive.plugins import Group, is_installed, load
from collector.archive.stores.clouds import AZURE, S3, SCHEMES, Login
from collector.archive.stores.local import LocalStore
from collector.archive.stores.place import Place, parse_address
from collector.errors import StoreRefused
from transfer.environment import Environment
from transfer.secret import Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collector.archive.stores import Store
    from collector.archive.stores.clouds import Cloud
    from collector.archive.stores.place import Address

PATIENCE = 60.0
"""Seconds that a call takes at most: a block of 64 MiB needs 9 Mbit/s."""
_EMULATOR = "AZURE_STORAGE_USE_EMULATOR"


def open_store(text: str, environ: Mapping[str, str], *, patience: float = PATIENCE, name: str = "archive") -> Store:
    """Return the store at an address; nothing is asked of it yet.

    Raises WrongSettings with all problems of the address and of the variables of its cloud, and StoreRefused where the
    extra is not installed. `name` is the setting or the option with the address.
    """
    if is_own(text):
        return _open_own(text, environ, name)
    address = parse_address(text, name)
    if address.cloud is None:
        return LocalStore(address.folder, patience=patience)
    environment = Environment(environ)
    login = _login(address, address.cloud, environment)
    certificate = _certificate(address.cloud, environment)
    environment.finish()
    try:
        from collector.archive.stores.objects import ObjectStore  # noqa: PLC0415 - it needs the extra
    except ImportError as exc:
        raise StoreRefused(
            f"{name}: expected obstore to be installed for {address.where}, but {exc}; install it:"
            " pip install 'transfer-collector[archive]'"
        ) from None
    place = Place(address.where, address.cloud, address.container, address.prefix, login)
    return ObjectStore(place, patience=patience, certificate=certificate)


def is_own(text: str) -> bool:
    """Tell whether an address is one of a store that somebody else has made, by its scheme."""
    scheme = text.partition("://")[0]
    return scheme != text and scheme.lower() not in {"file", *SCHEMES} and is_installed(scheme, Group.STORES)


def _open_own(text: str, environ: Mapping[str, str], name: str) -> Store:
    scheme = text.partition("://")[0]
    try:
        store: Store = load(scheme, Group.STORES)(text, environ)
    except StoreRefused:
        raise
    except Exception as exc:
        raise StoreRefused(f"{name}: expected the store {scheme} to open, but {type(exc).__name__}: {exc}") from exc
    return store


def _login(address: Address, cloud: Cloud, environment: Environment) -> Login:
    login = Login.read(cloud, environment)
    stated = {"account_name": address.account, "endpoint": address.endpoint}
    login = replace(login, settings={**login.settings, **{key: value for key, value in stated.items() if value}})
    if cloud is AZURE and not environment.problems and not environment.is_set(_EMULATOR):
        try:
            named = "account_name" in login.values()
        except Unreadable:
            named = True  # the next call says it
        if not named:
            environment.add_problem("AZURE_STORAGE_ACCOUNT_NAME", "the name of the account", "nothing: it is not set")
    return login


def _certificate(cloud: Cloud, environment: Environment) -> bytes | None:
    """Return the authorities that a store's certificate may be from, beside those of the system."""
    path = environment.path("AWS_CA_BUNDLE") if cloud is S3 else None
    if path is None:
        return None
    with open(path, "rb") as file:  # noqa: PTH123 - it was read just now
        return file.read()
