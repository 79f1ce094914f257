"""The clouds that an archive can be in: their variables, their rights, and their words for what is missing.

The variables are those that each cloud's own tools read. obstore reads all of them by itself; here are those with a
form `*_FILE`, whose files may change while the process runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transfer.environment import Environment
    from transfer.secret import Secret


class Task(Enum):
    """The three things that a store is asked for."""

    CREATE = "create"
    READ = "read"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Cloud:
    """A kind of object stores."""

    name: str
    container: str
    """The cloud's word for the place of objects."""
    secrets: Mapping[str, str]
    """The name in obstore of each variable that may be a secret."""
    settings: Mapping[str, str]
    """The names in obstore of the other variables that are read here; a later one goes before an earlier one."""
    rights: Mapping[Task, str]
    login: str
    """The variables that log in."""
    elsewhere: frozenset[str] = frozenset()
    """Variables that log in without a secret in them; obstore reads them, and the files that they name."""


_CONNECTION = "connection_string"
_PARTS_OF_CONNECTION = {
    "AccountName": "account_name",
    "AccountKey": "account_key",
    "SharedAccessSignature": "sas_key",
    "BlobEndpoint": "endpoint",
}
S3 = Cloud(
    "S3",
    "bucket",
    {
        "AWS_ACCESS_KEY_ID": "access_key_id",
        "AWS_SECRET_ACCESS_KEY": "secret_access_key",
        "AWS_SESSION_TOKEN": "session_token",
    },
    {"AWS_ENDPOINT": "endpoint", "AWS_ENDPOINT_URL": "endpoint", "AWS_ENDPOINT_URL_S3": "endpoint"},
    {Task.CREATE: "s3:PutObject", Task.READ: "s3:GetObject", Task.LIST: "s3:ListBucket"},
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    frozenset(
        {
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_SKIP_SIGNATURE",
        }
    ),
)
AZURE = Cloud(
    "Azure",
    "container",
    {
        "AZURE_STORAGE_ACCOUNT_KEY": "account_key",
        "AZURE_STORAGE_SAS_TOKEN": "sas_key",
        "AZURE_STORAGE_TOKEN": "token",
        "AZURE_CLIENT_SECRET": "client_secret",
        "AZURE_STORAGE_CONNECTION_STRING": _CONNECTION,
    },
    {
        "AZURE_STORAGE_ACCOUNT": "account_name",
        "AZURE_STORAGE_ACCOUNT_NAME": "account_name",
        "AZURE_ENDPOINT": "endpoint",
        "AZURE_STORAGE_ENDPOINT": "endpoint",
    },
    {
        Task.CREATE: "Storage Blob Data Contributor, or c and w of a SAS token",
        Task.READ: "Storage Blob Data Reader, or r of a SAS token",
        Task.LIST: "Storage Blob Data Reader, or l of a SAS token",
    },
    "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
    frozenset({"AZURE_FEDERATED_TOKEN_FILE", "AZURE_USE_AZURE_CLI", "AZURE_SKIP_SIGNATURE"}),
)
GCS = Cloud(
    "GCS",
    "bucket",
    {"GOOGLE_SERVICE_ACCOUNT_KEY": "service_account_key", "GOOGLE_BEARER_TOKEN": "bearer_token"},
    {"GOOGLE_BASE_URL": "base_url"},
    {
        Task.CREATE: "storage.objects.create",
        Task.READ: "storage.objects.get",
        Task.LIST: "storage.objects.list",
    },
    "GOOGLE_APPLICATION_CREDENTIALS",
    frozenset({"GOOGLE_SKIP_SIGNATURE"}),
)
SCHEMES: Mapping[str, Cloud] = {
    "s3": S3,
    "s3a": S3,
    "az": AZURE,
    "azure": AZURE,
    "abfs": AZURE,
    "abfss": AZURE,
    "gs": GCS,
}
_KEY_FILES = ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH")
"""Variables that name a file with the key of a service account."""


@dataclass(frozen=True, slots=True)
class Login:
    """How a store is reached: values that stay, and secrets that are read before each call."""

    settings: Mapping[str, str]
    secrets: Mapping[str, Secret]
    key_files: tuple[str, ...]
    missing: str
    """The variables to set; empty when some are set."""

    @classmethod
    def read(cls, cloud: Cloud, environment: Environment) -> Login:
        """Read the variables of a cloud; problems are noted in `environment`."""
        secrets = {
            key: secret for name, key in cloud.secrets.items() if (secret := environment.secret(name)) is not None
        }
        settings = {key: value for name, key in cloud.settings.items() if (value := environment.text(name))}
        key_files = tuple(path for name in _KEY_FILES if cloud is GCS and (path := environment.path(name)))
        known = bool(secrets or key_files) or any(environment.is_set(name) for name in cloud.elsewhere)
        if cloud is S3 and not known and environment.is_set("AWS_PROFILE"):
            environment.add_problem("AWS_PROFILE", f"{cloud.login}, or their *_FILE", "a profile, which is not read")
        return cls(settings, secrets, key_files, "" if known else f"{cloud.login}, or their *_FILE")

    def values(self) -> dict[str, str]:
        """Return what obstore is given, with the secrets as they are now. Raises `Unreadable`."""
        values = {**self.settings, **{key: secret.read() for key, secret in self.secrets.items()}}
        return {**_parts_of(values.pop(_CONNECTION, "")), **values}

    def stamp(self) -> tuple[object, ...]:
        """Return a value that changes when a key file, which only obstore reads, is replaced. Raises OSError."""
        found = [Path(path).stat() for path in self.key_files]
        return tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in found)


def _parts_of(connection: str) -> dict[str, str]:
    """Return the values in a connection string of Azure."""
    parts = dict(part.partition("=")[::2] for part in connection.split(";") if part)
    values = {key: parts[name] for name, key in _PARTS_OF_CONNECTION.items() if name in parts}
    if parts and "endpoint" not in values and "EndpointSuffix" in parts:
        protocol = parts.get("DefaultEndpointsProtocol", "https")
        values["endpoint"] = f"{protocol}://{parts.get('AccountName')}.blob.{parts['EndpointSuffix']}"
    return values
