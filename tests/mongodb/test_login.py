"""A new login to MongoDB waits while time-series loggers are still owned under the old one."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from anyio import Event, create_task_group, fail_after

from collector.errors import StillOwned
from collector.events import Failed
from collector.mongodb.login import MongoLogin
from tests.support.fakes import Reports
from transfer.secret import Secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import pytest

OLD, NEW = "mongodb://one:a@127.0.0.1:1/?replicaSet=rs", "mongodb://two:b@127.0.0.1:1/?replicaSet=rs"


class Nobody:
    """A MongoDB that says who is logged in: always somebody."""

    @property
    def admin(self) -> Nobody:
        return self

    async def command(self, _: str) -> dict[str, Any]:
        return {"authInfo": {"authenticatedUsers": ["one"]}}


async def test_as_long_as_owners_do_not_give_back_the_old_login_is_kept_and_the_new_one_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("collector.mongodb.login._PERIOD", 0.001)
    path, reports, renewed = tmp_path / "uri", Reports(), list[str]()
    path.write_text(OLD)
    login, gone_over, tries = MongoLogin(Secret("DATABASE", path=str(path))), Event(), 0
    client: Any = Nobody()

    async def renew(_: object, uri: str) -> Any:
        async def close() -> None: ...

        renewed.append(uri)
        gone_over.set()
        return close

    @asynccontextmanager
    async def owning_nothing() -> AsyncIterator[None]:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise StillOwned(["system"], 45.0)
        yield

    monkeypatch.setattr("collector.mongodb.login.renew", renew)
    with fail_after(30):
        async with create_task_group() as group:
            group.start_soon(login.follow, client, owning_nothing, reports)
            path.write_text(NEW)
            await gone_over.wait()
            group.cancel_scope.cancel()
    assert renewed == [NEW]
    said = "expected to give back all time-series loggers within 45 s, but still own 1: system"
    assert [one.error for one in reports.of(Failed)] == [said, said]
