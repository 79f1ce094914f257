"""The address of an archive: `/folder`, `file:///folder`, `s3://bucket/prefix`, `az://…`, `abfs://…`, `gs://…`. Pure.

An address that is wrong may hold a secret in a place where none belongs, so no more of it is shown than its scheme.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from collector.archive.stores import check_path
from collector.archive.stores.clouds import AZURE, SCHEMES
from collector.errors import StoreRefused
from transfer.errors import Problem, WrongSettings

if TYPE_CHECKING:
    from urllib.parse import SplitResult

    from collector.archive.stores.clouds import Cloud, Login

EXPECTED = "/folder, file:///folder, s3://bucket/prefix, az://container/prefix or gs://bucket/prefix"
LONGEST_PREFIX = 100
"""Bytes of a prefix: with the longest path, a key of S3 is at most 1,024 bytes."""
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{1,254}")
_ACCOUNT = re.compile(r"([a-z0-9]{3,24})\.(?:dfs|blob)\.([a-z0-9.-]+)")


@dataclass(frozen=True, slots=True)
class Address:
    """Where an archive is, without a login."""

    where: str
    """As it is shown."""
    cloud: Cloud | None = None
    """None: a folder."""
    folder: Path = Path()
    container: str = ""
    prefix: str = ""
    account: str = ""
    """An account of Azure that is in the address."""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket or container with the login for it."""

    where: str
    cloud: Cloud
    container: str
    prefix: str
    login: Login


def parse_address(text: str, name: str = "archive") -> Address:
    """Return the address in a text. Raises WrongSettings, which names it as `name`."""
    if text.startswith("/"):
        return Address(text, folder=Path(text))
    scheme, found, _ = text.partition("://")
    if not found:
        raise _wrong(name, EXPECTED, _shown_without_scheme(text))
    if scheme.lower() == "file":
        return _folder(text, name)
    cloud = SCHEMES.get(scheme.lower())
    if cloud is None:
        raise _wrong(name, EXPECTED, f"the scheme {scheme[:20]!r}" + _meant(scheme.lower()))
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _wrong(name, EXPECTED, "an address that is no URL (not shown)") from None
    return _in_cloud(parts, cloud, name)


def _folder(text: str, name: str) -> Address:
    path = unquote(text.removeprefix(text[: len("file://")]).removeprefix("localhost"))
    if not path.startswith("/"):
        raise _wrong(name, "an absolute path such as file:///folder", repr(text))
    return Address(path, folder=Path(path))


def _in_cloud(parts: SplitResult, cloud: Cloud, name: str) -> Address:
    container, account, endpoint = parts.netloc, "", ""
    if cloud is AZURE and "@" in container:
        container, _, host = container.partition("@")
        if (found := _ACCOUNT.fullmatch(host)) is None:
            raise _wrong(name, "abfs://container@account.dfs.core.windows.net/prefix", "another host (not shown)")
        account = found[1]
        endpoint = "" if found[2] == "core.windows.net" else f"https://{account}.blob.{found[2]}"
    if "@" in container or parts.query or parts.fragment or "?" in parts.path:
        raise _wrong(name, f"no login and no query in it: {cloud.login} or *_FILE are for it", "one (not shown)")
    if not _CONTAINER.fullmatch(container):
        raise _wrong(name, f"a {cloud.container} as in {EXPECTED}", repr(container[:70]))
    prefix = unquote(parts.path).strip("/")
    _check_prefix(prefix, name)
    at = f"@{account}" if account else ""
    where = f"{parts.scheme}://{container}{at}" + (f"/{prefix}" if prefix else "")
    return Address(where, cloud, container=container, prefix=prefix, account=account, endpoint=endpoint)


def _check_prefix(prefix: str, name: str) -> None:
    if len(prefix.encode()) > LONGEST_PREFIX:
        raise _wrong(name, f"a prefix of at most {LONGEST_PREFIX} bytes", f"one of {len(prefix.encode())}")
    if prefix:
        try:
            check_path(prefix)
        except StoreRefused as exc:
            raise WrongSettings([Problem(name, "a prefix that can be a path", str(exc))]) from None


def _shown_without_scheme(text: str) -> str:
    scheme = text.partition(":")[0]
    if ":" in text and scheme.lower() in {*SCHEMES, "file"}:
        return f"no // behind {scheme}:"
    shown = repr(text[:70]) if re.fullmatch(r"[\w./-]*", text) else "something else (not shown)"
    return f"{shown}, which is neither an absolute path nor a URL"


def _meant(scheme: str) -> str:
    close = get_close_matches(scheme, [*SCHEMES, "file"], n=1, cutoff=0.5)
    known = {"gcs": "gs", "google": "gs", "wasb": "abfs", "wasbs": "abfss", "minio": "s3", "r2": "s3", "http": "s3"}
    meant = known.get(scheme) or (close[0] if close else "")
    return f": did you mean {meant}://?" if meant else ""


def _wrong(name: str, expected: str, got: str) -> WrongSettings:
    return WrongSettings([Problem(name, expected, got)])
