"""What each cloud may answer, from a server that says it: which error it is, whether it is certain, and what to do."""

from __future__ import annotations

import traceback
from functools import partial
from typing import TYPE_CHECKING

import pytest
from anyio import create_task_group, fail_after

from collector.archive.stores.opening import open_store
from collector.archive.stores.probe import probe
from collector.errors import NotThere, StoreRefused, StoreUnavailable
from tests.support.object_stores import azure_environ, s3_environ
from tests.support.recorded import Answer, error, recorder
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from collector.archive.stores import Store
    from tests.support.certificates import Authority

SECRET = "hunter2"
SAS = f"sv=2023-11-03&sp=racwl&sig={SECRET}%3D"
CLOUDS = ("s3", "az", "gs")
OK = Answer(200)


def environ(cloud: str, port: int) -> Mapping[str, str]:
    if cloud == "s3":
        return {**s3_environ(port), "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": SECRET}
    if cloud == "az":
        return {**azure_environ(port), "AZURE_STORAGE_ACCOUNT_KEY": "", "AZURE_STORAGE_SAS_TOKEN": SAS}
    return {"GOOGLE_BASE_URL": f"http://127.0.0.1:{port}", "GOOGLE_BEARER_TOKEN": SECRET}


def opened(cloud: str, port: int, *, patience: float = 30.0) -> Store:
    return open_store(f"{cloud}://bucket/in", environ(cloud, port), patience=patience)


UNSURE = [Answer(0), error(500, "InternalError"), error(502), error(503, "SlowDown"), error(504), error(408)]
CERTAIN = [
    (error(403, "AccessDenied", SECRET), r"403 AccessDenied: grant .*, or correct the login in \w+"),
    (error(401, "InvalidToken"), r"401 InvalidToken: grant .*, or correct the login"),
    (error(403, "RequestTimeTooSkewed"), "403 RequestTimeTooSkewed: set the clock of this machine"),
    (error(404, "NoSuchBucket"), r"404 NoSuchBucket: make the (bucket|container), or correct its name"),
    (error(400, "ExpiredToken"), r"400 ExpiredToken: look up this code in the manual of \w+"),
    (error(413, "EntityTooLarge"), "413 EntityTooLarge: let blocks be smaller"),
    (error(301, "PermanentRedirect"), "301.*: (set AWS_REGION to the region|correct the endpoint)"),
    (
        error(501, "NotImplemented"),
        "501 NotImplemented: use a store that can create an object only where there is none",
    ),
]


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("answer", UNSURE, ids=lambda answer: str(answer.status))
async def test_a_create_without_a_certain_answer_is_ambiguous_and_is_asked_once(cloud: str, answer: Answer) -> None:
    with (
        recorder(answer) as server,
        pytest.raises(StoreUnavailable, match=r"expected \w+://bucket/in to create a/b, got") as raised,
    ):
        await opened(cloud, server.port).create("a/b", b"data")
    assert raised.value.ambiguous
    assert [request.method for request in server.asked] == ["PUT"], "a second PUT would find what the first one made"


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("answer", [error(429, "TooManyRequests"), error(400, "RequestTimeout")])
async def test_a_busy_store_that_did_nothing_is_not_ambiguous(cloud: str, answer: Answer) -> None:
    said = r"4\d\d \w+: it is busy, and is asked again later"
    with recorder(answer) as server, pytest.raises(StoreUnavailable, match=said) as raised:
        await opened(cloud, server.port).create("a/b", b"data")
    assert not raised.value.ambiguous


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize(("answer", "said"), CERTAIN, ids=lambda value: str(getattr(value, "status", "")))
async def test_a_no_is_refused_with_what_to_do_and_without_a_secret(cloud: str, answer: Answer, said: str) -> None:
    with recorder(answer) as server:
        store = opened(cloud, server.port)
        for call in (partial(store.create, "a/b", b"data"), partial(store.read, "a/b"), partial(store.after, "a", "")):
            with pytest.raises(StoreRefused, match=said) as raised:
                await call()
            text = "".join(traceback.format_exception(raised.value))
            assert SECRET not in text
            assert "sig=" not in text
            assert "127.0.0.1" not in str(raised.value)


@pytest.mark.parametrize("cloud", CLOUDS)
@pytest.mark.parametrize("conflict", [409, 412])
async def test_a_conflict_is_believed_only_when_the_object_is_there(cloud: str, conflict: int) -> None:
    with recorder(error(conflict, "ConditionalRequestConflict"), OK) as server:
        assert not await opened(cloud, server.port).create("a/b", b"data")
        assert [request.method for request in server.asked] == ["PUT", "HEAD"]
    with recorder(error(conflict, "ConditionalRequestConflict"), error(404)) as server:
        with pytest.raises(StoreUnavailable, match="got a conflict with another create, and no object") as raised:
            await opened(cloud, server.port).create("a/b", b"data")
        assert raised.value.ambiguous
    with recorder(error(conflict), error(503)) as server:
        with pytest.raises(StoreUnavailable, match="503: it is busy") as raised:
            await opened(cloud, server.port).create("a/b", b"data")
        assert raised.value.ambiguous


@pytest.mark.parametrize(
    ("cloud", "answer"),
    [
        ("az", error(403, "UnauthorizedBlobOverwrite")),
        ("gs", error(403, "AccessDenied", "x does not have storage.objects.delete access to the object")),
    ],
)
async def test_no_right_to_overwrite_says_that_the_object_is_there(cloud: str, answer: Answer) -> None:
    with recorder(answer, OK) as server:
        assert not await opened(cloud, server.port).create("a/b", b"data")


async def test_the_requests_to_gcs_are_those_of_its_xml_api() -> None:
    """No GCS server runs here, so this is all that is tried of it: https://cloud.google.com/storage/docs/xml-api."""
    listed = (
        b"<ListBucketResult><Contents><Key>in/a/b</Key><LastModified>2026-11-28T09:00:00Z</LastModified><Size>4</Size>"
    )
    listed += b"<ETag>1</ETag></Contents></ListBucketResult>"
    with recorder(OK, Answer(200, b"data"), Answer(200, listed)) as server:
        store = opened("gs", server.port)
        assert await store.create("a/b", b"data")
        assert await store.read("a/b") == b"data"
        assert await store.after("a", "") == ["a/b"]
    put, get, listing = server.asked
    assert (put.method, put.path, put.body) == ("PUT", "/bucket/in%2Fa%2Fb", b"data")
    assert put.headers["x-goog-if-generation-match"] == "0"
    assert put.headers["authorization"] == f"Bearer {SECRET}"
    assert (get.method, get.path) == ("GET", "/bucket/in%2Fa%2Fb")
    assert (listing.method, listing.path) == ("GET", "/bucket?list-type=2&prefix=in%2Fa%2F")


@pytest.mark.parametrize(("cloud", "header"), [("s3", "if-none-match"), ("az", "if-none-match")])
async def test_a_create_is_one_request_with_its_condition_whatever_its_size(cloud: str, header: str) -> None:
    with recorder(OK) as server:
        await opened(cloud, server.port).create("a/b", bytes(12 * 1024 * 1024))
    [request] = server.asked
    assert (request.method, request.headers[header], len(request.body)) == ("PUT", "*", 12 * 1024 * 1024)


def page(names: list[str], token: str = "") -> Answer:
    found = "".join(
        f"<Contents><Key>in/{name}</Key><LastModified>2026-11-28T09:00:00.000Z</LastModified><Size>1</Size></Contents>"
        for name in names
    )
    more = f"<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    return Answer(200, f"<ListBucketResult>{found}{more}</ListBucketResult>".encode())


async def test_lists_of_many_pages_that_are_not_sorted_and_begin_anywhere_are_put_right() -> None:
    thousand = [f"a/{number}" for number in range(1000, 2000)]
    pages = [page(["a/3", "a/1"], "more"), page(thousand, "again"), page(["a/0"])]
    with recorder(*pages) as server:
        found = await opened("s3", server.port).after("a", "a/1")
    assert found == sorted(["a/3", *thousand])
    assert ["continuation-token" in request.path for request in server.asked] == [False, True, True]
    said = "503 SlowDown: it is busy"
    with recorder(pages[0], error(503, "SlowDown")) as server, pytest.raises(StoreUnavailable, match=said):
        await opened("s3", server.port).after("a", "")


@pytest.mark.parametrize(
    ("folder", "path", "offset"),
    [
        ("log", "log/000000000123.cut", "in/log/00000000012"),
        ("", "a/b", None),
        ("", "abc/d", "in/ab"),
        ("log", "other/000", None),
        ("log", "log/-12", None),
        ("log", "", None),
    ],
)
async def test_a_list_begins_where_the_orders_of_all_stores_agree(folder: str, path: str, offset: str | None) -> None:
    with recorder(page([])) as server:
        await opened("s3", server.port).after(folder, path)
    after = server.asked[0].path.partition("start-after=")[2].replace("%2F", "/")
    assert (after or None) == offset


@pytest.mark.parametrize("cloud", CLOUDS)
async def test_a_store_that_never_answers_is_given_up_in_time_and_a_caller_that_ends_cuts_nothing(cloud: str) -> None:
    told: list[bool] = []

    async def create(store: Store) -> None:
        with pytest.raises(StoreUnavailable, match="to create a/b, got no answer in time") as raised:
            await store.create("a/b", b"data")
        told.append(raised.value.ambiguous)

    with recorder(Answer(-1)) as server, fail_after(60):
        async with create_task_group() as group:
            group.start_soon(create, opened(cloud, server.port, patience=0.5))
            await until(lambda: bool(server.asked), 5)
            group.cancel_scope.cancel()
    assert told == [True]


async def test_a_store_that_ignores_conditions_is_refused_by_the_probe() -> None:
    with recorder(OK) as server, pytest.raises(StoreRefused, match="it took both: it ignores conditions"):
        await probe(opened("s3", server.port))


async def test_all_missing_rights_are_named_at_once_by_the_probe() -> None:
    with recorder(error(403, "AccessDenied")) as server, pytest.raises(StoreRefused) as raised:
        await probe(opened("s3", server.port))
    assert all(right in str(raised.value) for right in ("s3:PutObject", "s3:GetObject", "s3:ListBucket"))


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([OK, error(409), OK, error(404)], "creation was answered just now: use a store that is consistent"),
        ([OK, error(409), OK, Answer(200, b"other")], "got 5 other bytes: another process writes there"),
    ],
)
async def test_a_store_that_does_not_give_what_it_took_is_refused_by_the_probe(
    answers: list[Answer], said: str
) -> None:
    with recorder(*answers) as server, pytest.raises(StoreRefused, match=said):
        await probe(opened("s3", server.port))


async def test_an_object_that_is_missing_is_told_from_a_bucket_that_is() -> None:
    with recorder(error(404, "NoSuchKey")) as server, pytest.raises(NotThere):
        await opened("s3", server.port).read("a/b")


async def test_without_a_login_it_is_said_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    address = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    said = r"got no answer \(Connection refused\) \(no login is set: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
    with pytest.raises(StoreUnavailable, match=said):
        await open_store("s3://bucket/in", address, patience=30.0).read("a")


async def test_a_certificate_is_trusted_when_its_authority_is_named(pki: Authority) -> None:
    with recorder(OK, certificate=(pki.path("server.pem"), pki.path("server.key"))) as server:
        address = f"https://127.0.0.1:{server.port}"
        login = {**s3_environ(1), "AWS_ENDPOINT_URL": address}
        with pytest.raises(StoreUnavailable, match="its certificate is not trusted: UnknownIssuer"):
            await open_store("s3://bucket/in", login, patience=30.0).create("a", b"")
        trusting = {**login, "AWS_CA_BUNDLE": pki.path("ca.pem")}
        assert await open_store("s3://bucket/in", trusting, patience=30.0).create("a", b"")
