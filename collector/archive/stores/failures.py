"""Obstore's errors in, numbers and codes alone out, as the texts of obstore may quote a secret. Pure.

obstore has one class for most of its errors. The status, the code in the answer and the kind of a failure of the
connection are in the text, which also quotes URLs and whole answers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from collector.archive.stores.clouds import Task
from collector.errors import StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collector.archive.stores.clouds import Cloud

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_KIND = re.compile(r"kind: (Connect|Timeout|Request|Interrupted|Decode|Unknown)\b")
_OF_THE_SYSTEM = re.compile(r'kind: (\w+),\s+message: "([\w ]{1,60})')
_CERTIFICATE = re.compile(r"InvalidCertificate\(\s*(\w{1,40})|(UnknownIssuer|CertificateExpired|NotValidForName)")
_MISSING = {"NoSuchBucket", "ContainerNotFound", "FilesystemNotFound"}
_OVERWRITING = re.compile(r"<Code>UnauthorizedBlobOverwrite</Code>|storage\.objects\.delete access")
"""Azure and GCS say that a right to overwrite is missing, where the object is there and must not be overwritten."""
_BUSY = {408, 429, 503}
_AGAIN = {"RequestTimeout", "IncompleteBody", "Throttling", "ThrottlingException", "RequestLimitExceeded"}
"""Codes of S3 that come with a 400, and mean that the same request may be done later."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The facts of a failed request."""

    status: int
    """0: there was no answer."""
    code: str
    """The store's own word for it."""
    connection: str
    """The kind of a failure of the connection; empty: an answer came."""
    detail: str

    @classmethod
    def of(cls, exc: BaseException) -> Failure:
        """Read an error of obstore."""
        text = str(exc)
        status, code, kind = _STATUS.search(text), _CODE.search(text), _KIND.search(text)
        return cls(
            status=int(status[1]) if status else 301 if "redirect without LOCATION" in text else 0,
            code=code[1] if code else "",
            connection="Timeout" if isinstance(exc, TimeoutError) else "" if status or not kind else kind[1],
            detail=_detail_of(text),
        )

    def __str__(self) -> str:
        if self.status:
            return f"{self.status} {self.code}".rstrip()
        if self.connection == "Timeout":
            return "no answer in time"
        if not self.connection:
            return "an answer that is not understood, or no login"
        return f"no answer ({self.detail or self.connection})"

    @property
    def is_of_container(self) -> bool:
        """Whether the bucket or container is missing, and not the object."""
        return self.code in _MISSING

    @property
    def is_certain(self) -> bool:
        """Whether the store surely did nothing: it was not reached, or it said no."""
        return self.connection == "Connect" or (300 <= self.status < 500 and self.status != 408)

    @property
    def is_passing(self) -> bool:
        """Whether the same request may be done later without a change by anybody."""
        return self.status == 0 or self.status >= 500 or self.status in _BUSY or self.code in _AGAIN


def _detail_of(text: str) -> str:
    if certificate := _CERTIFICATE.search(text):
        return f"its certificate is not trusted: {certificate[1] or certificate[2]}"
    if "dns error" in text:
        return "its name is not known to DNS"
    of_the_system = _OF_THE_SYSTEM.search(text)
    return of_the_system[2] if of_the_system else ""


def is_overwriting(exc: BaseException) -> bool:
    """Tell whether a create was refused because it would overwrite, in words of rights."""
    return bool(_OVERWRITING.search(str(exc)))


def translated(
    exc: BaseException, cloud: Cloud, task: Task, doing: str, missing: str
) -> StoreUnavailable | StoreRefused:
    """Return the error to raise in place of one of obstore's. `doing` says what was expected of which store."""
    failure = Failure.of(exc)
    said = f"expected {doing}, got {failure}"
    if missing and (failure.status in {400, 401, 403} or not failure.status):
        said += f" (no login is set: set {missing}, unless this machine has a role)"
    if failure.is_passing:
        return _unavailable(failure, said, ambiguous=task is Task.CREATE and not failure.is_certain)
    return StoreRefused(f"{said}: {_way_out(failure, cloud, task)}")


def _unavailable(failure: Failure, said: str, *, ambiguous: bool) -> StoreUnavailable | StoreRefused:
    if failure.status == 501:
        return StoreRefused(f"{said}: use a store that can create an object only where there is none")
    do = (
        "it is busy, and is asked again later"
        if failure.status in _BUSY or failure.code in _AGAIN
        else "look at the store and the way to it"
    )
    return StoreUnavailable(f"{said}: {do}", ambiguous=ambiguous)


def _way_out(failure: Failure, cloud: Cloud, task: Task) -> str:
    if failure.is_of_container or failure.status == 404:
        return f"make the {cloud.container}, or correct its name"
    if failure.code == "RequestTimeTooSkewed":
        return "set the clock of this machine"
    if failure.status in {401, 403}:
        return f"grant {cloud.rights[task]}, or correct the login in {cloud.login}"
    if failure.status in {301, 302, 307, 308}:
        return "set AWS_REGION to the region of the bucket" if cloud.name == "S3" else "correct the endpoint"
    if failure.status == 413:
        return "let blocks be smaller"
    return f"look up this code in the manual of {cloud.name}, and correct the login or the {cloud.container}"
