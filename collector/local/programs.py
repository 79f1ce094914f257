"""The programs of the embedded servers, and the libraries that they need from this system."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from collector.errors import CollectorError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOADER_ERROR = re.compile(r"error while loading shared libraries: ([^:\s]+): cannot open shared object file")
_DEBIAN_PACKAGES = {"libcurl": "libcurl4", "liblzma": "liblzma5", "libssl": "libssl3", "libcrypto": "libssl3"}


class MissingServer(CollectorError):
    """A server's program is missing or cannot run: the message has the command that mends it."""


def find_nats_server() -> Path:
    """Find nats-server: as COLLECTOR_NATS_SERVER names it, on the PATH, or in this environment; raise MissingServer."""
    return _find("nats-server", "COLLECTOR_NATS_SERVER", Path(sysconfig.get_path("scripts")))


def find_mongod() -> Path:
    """Find mongod: as COLLECTOR_MONGOD names it, on the PATH, or in this environment; raise MissingServer."""
    return _find("mongod", "COLLECTOR_MONGOD", Path(sysconfig.get_path("purelib"), "fiftyone", "db", "bin"))


def _find(program: str, variable: str, embedded: Path) -> Path:
    if named := os.environ.get(variable):
        if found := shutil.which(named):
            return Path(found)
        raise MissingServer(f"expected {variable} to name a program, got {named!r}: correct it, or unset it")
    if found := shutil.which(program) or shutil.which(program, path=embedded):
        return Path(found)
    raise MissingServer(
        f"expected {program} on the PATH or in {embedded}, found none; install it with"
        f" {sys.executable} -m pip install 'transfer-collector[service,local]', or name one in {variable}"
    )


def loadable(program: Path, folder: Path) -> Mapping[str, str]:
    """Make the environment in which `program` finds its libraries; raise MissingServer when a library is missing.

    The embedded mongod needs a libcurl. Where the system has none, only mongod is given the one inside the pycurl
    wheel, under the name that mongod expects (a link in `folder`).
    """
    environment = dict(os.environ)
    missing = _missing_library(program, environment)
    if missing and missing.startswith("libcurl.so") and (bundled := _bundled_libcurl()):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / missing).unlink(missing_ok=True)
        (folder / missing).symlink_to(bundled)
        searched = (str(folder), str(bundled.parent), environment.get("LD_LIBRARY_PATH", ""))
        environment["LD_LIBRARY_PATH"] = ":".join(filter(None, searched))
        missing = _missing_library(program, environment)
    if missing:
        package = _DEBIAN_PACKAGES.get(missing.partition(".so")[0], f"the package that holds {missing}")
        raise MissingServer(f"expected {program} to run, but this system has no {missing}: apt-get install {package}")
    return environment


def _missing_library(program: Path, environment: Mapping[str, str]) -> str | None:
    """Run the program once, and return the first library that the loader does not find."""
    english = {**environment, "LC_ALL": "C"}
    tried = subprocess.run([program, "--version"], env=english, capture_output=True, text=True, check=False)  # noqa: S603
    if tried.returncode == 0:
        return None
    if found := _LOADER_ERROR.search(tried.stderr):
        return found[1]
    raise MissingServer(f"expected {program} --version to succeed, got exit status {tried.returncode}: {tried.stderr}")


def _bundled_libcurl() -> Path | None:
    with suppress(PackageNotFoundError):
        return next(Path(str(distribution("pycurl").locate_file("pycurl.libs"))).glob("libcurl-*.so*"), None)
    return None
