"""Real object stores on loopback: seaweedfs for S3 and azurite for Azure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import shutil
import sysconfig
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from collector.local.server import Server, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
BUCKET = "archive"
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = base64.b64encode(b"a key that lives for one test run").decode()
INSTALL_AZURITE = "cp -r requirements/azurite .venv/ && npm ci --prefix .venv/azurite"
AZURITE = ROOT / ".venv" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
"""Where .ci/run installs it."""


class Weed(Server):
    """A seaweedfs with S3, whose one bucket is `archive`. Its data are on the disk, and survive a kill."""

    name = "weed"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, Path(sysconfig.get_path("scripts"), "weed"), port=None)

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        """The variables for a store in its bucket."""
        return s3_environ(self.port)

    def stop(self) -> None:
        """Kill it: its own end takes longer than 20 s."""
        self.kill()

    def _command(self) -> list[str]:
        rights = ["Admin", "Read", "Write", "List"]
        login = {"accessKey": "key", "secretKey": "secret"}
        reader = {"accessKey": "reader", "secretKey": "secret"}
        identities = [
            {"name": "all", "credentials": [login], "actions": rights},
            {"name": "reader", "credentials": [reader], "actions": ["Read", "List"]},
        ]
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": identities}))
        ports = ["master.port", "volume.port", "filer.port"]
        ports += [f"{part}.port.grpc" for part in ("s3", "master", "volume", "filer")]
        return [
            str(self.program),
            "server",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={self.folder}",
            "-s3",
            f"-s3.config={config}",
            f"-s3.port={self.port}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-volume.max=20",
            "-master.volumeSizeLimitMB=256",
            *(f"-{name}={free_port()}" for name in ports),
        ]

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, "GOMEMLIMIT": "200MiB", "GOGC": "50"}

    def _answers(self) -> bool:
        """Create an object, and with it the bucket."""
        import obstore  # noqa: PLC0415 - only for these tests
        from obstore.exceptions import BaseError  # noqa: PLC0415
        from obstore.store import S3Store  # noqa: PLC0415

        store = S3Store(
            BUCKET,
            endpoint=self.url,
            access_key_id="key",
            secret_access_key="secret",
            region="us-east-1",
            client_options={"allow_http": True, "timeout": "5s"},
            retry_config={"max_retries": 0},
        )
        try:
            self._connected().close()
            obstore.put(store, "started", b"")
        except (BaseError, OSError):
            return False
        return True


def s3_environ(port: int, key: str = "key") -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }


class Azurite(Server):
    """An azurite with the container `archive`. It keeps an object a few seconds after its answer, and not before."""

    name = "azurite"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, needed_azurite(), port=None)

    @property
    def url(self) -> str:
        """The endpoint with the account."""
        return f"http://127.0.0.1:{self.port}/{ACCOUNT}"

    @property
    def environ(self) -> dict[str, str]:
        """The variables for a store in its container."""
        return azure_environ(self.port)

    def stop(self) -> None:
        """Kill it."""
        self.kill()

    def _command(self) -> list[str]:
        return [
            str(self.program),
            "--silent",
            "--disableTelemetry",  # else it connects to an outside host
            "--skipApiVersionCheck",
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            str(self.port),
            "--location",
            str(self.folder),
        ]

    def _environment(self) -> Mapping[str, str]:
        return {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{ACCOUNT_KEY}"}

    def _answers(self) -> bool:
        """Make the container, which is there from then on."""
        resource = f"/{ACCOUNT}/{BUCKET}"
        moment = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        headers = f"x-ms-date:{moment}\nx-ms-version:2023-11-03\n"
        signed = "PUT" + "\n" * 12 + f"{headers}/{ACCOUNT}{resource}\nrestype:container"
        digest = hmac.new(base64.b64decode(ACCOUNT_KEY), signed.encode(), hashlib.sha256).digest()
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(
                "PUT",
                f"{resource}?restype=container",
                headers={
                    "x-ms-date": moment,
                    "x-ms-version": "2023-11-03",
                    "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
                },
            )
            return connection.getresponse().status in {201, 409}
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


def azure_environ(port: int) -> dict[str, str]:
    return {
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
        "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/{ACCOUNT}",
    }


def find_azurite() -> Path | None:
    """Find azurite on the PATH, or where .ci/run installs it."""
    found = shutil.which("azurite-blob") or shutil.which(AZURITE)
    return Path(found) if found else None


def needed_azurite() -> Path:
    """Find azurite; without it a test is skipped, and in CI it fails, unless .ci/run could not fetch it."""
    if found := find_azurite():
        return found
    reason = f"no azurite on the PATH or in .venv/azurite: {INSTALL_AZURITE}"
    if os.environ.get("CI") and not os.environ.get("WITHOUT_AZURITE"):
        pytest.fail(reason)
    pytest.skip(reason)
