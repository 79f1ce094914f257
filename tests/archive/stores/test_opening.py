"""Addresses and variables of stores: what is opened, what is wrong, and that no secret is shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from collector.archive.stores.clouds import AZURE, GCS, S3, Login
from collector.archive.stores.local import LocalStore
from collector.archive.stores.opening import open_store
from collector.archive.stores.place import parse_address
from collector.errors import StoreRefused
from tests.support.object_stores import ACCOUNT, ACCOUNT_KEY, azure_environ, s3_environ
from transfer.environment import Environment
from transfer.errors import WrongSettings

ROOT = Path(__file__).parents[3]
SECRET = "hunter2"
AZURE_ENVIRON = azure_environ(1)


@pytest.mark.parametrize(
    "text", ["/backup/logs", "file:///backup/logs", "file://localhost/backup/logs", "FILE:///backup/logs"]
)
def test_a_folder_is_an_absolute_path_or_its_url(text: str) -> None:
    address = parse_address(text)
    assert (address.cloud, str(address.folder), address.where) == (None, "/backup/logs", "/backup/logs")


@pytest.mark.parametrize(
    ("text", "cloud", "container", "prefix"),
    [
        ("s3://bucket", S3, "bucket", ""),
        ("s3://bucket/", S3, "bucket", ""),
        ("S3://my.bucket/a/b/", S3, "my.bucket", "a/b"),
        ("s3a://bucket/a", S3, "bucket", "a"),
        ("az://container/a%20b", AZURE, "container", "a b"),
        ("azure://container", AZURE, "container", ""),
        ("abfs://container/a", AZURE, "container", "a"),
        ("gs://bucket/logs", GCS, "bucket", "logs"),
    ],
)
def test_an_address_has_a_bucket_and_a_prefix(text: str, cloud: object, container: str, prefix: str) -> None:
    address = parse_address(text)
    assert (address.cloud, address.container, address.prefix) == (cloud, container, prefix)


def test_an_account_of_azure_may_be_in_the_address() -> None:
    address = parse_address("abfss://logs@account1.dfs.core.windows.net/a")
    assert (address.container, address.account, address.endpoint, address.prefix) == ("logs", "account1", "", "a")
    assert address.where == "abfss://logs@account1/a"
    china = parse_address("abfss://logs@account1.dfs.core.chinacloudapi.cn")
    assert china.endpoint == "https://account1.blob.core.chinacloudapi.cn"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s4://bucket", "did you mean s3://"),
        ("gcs://bucket", "did you mean gs://"),
        ("wasbs://bucket", "did you mean abfss://"),
        ("fil:///backup", "did you mean file://"),
        ("nats://127.0.0.1", "the scheme 'nats'"),
        ("s3:/bucket", "no // behind s3:"),
        ("file:/backup", "no // behind file:"),
        ("backup/logs", "'backup/logs', which is neither an absolute path nor a URL"),
        ("", "''"),
        ("file://backup", "an absolute path such as file:///folder"),
        ("s3://", "a bucket as in"),
        ("s3:///prefix", "a bucket as in"),
        ("az://x", "a container as in"),
        ("s3://bucket/a//b", "a prefix that can be a path"),
        ("s3://bucket/../b", "a prefix that can be a path"),
        (f"s3://bucket/{'a' * 101}", "a prefix of at most 100 bytes"),
        (f"s3://key:{SECRET}@bucket/a", "no login and no query in it: AWS_ACCESS_KEY_ID and"),
        (f"az://container/a?sig={SECRET}", "no login and no query in it: AZURE_STORAGE_ACCOUNT_KEY or"),
        (f"s3://bucket/a#{SECRET}", "no login and no query in it"),
        (f"abfs://container@{SECRET}:x/a", "another host (not shown)"),
        (f"s3://[{SECRET}", "no URL (not shown)"),
        (f"DefaultEndpointsProtocol=https;AccountKey={SECRET}", "something else (not shown)"),
        (f"https://a.blob.core.windows.net/c?sig={SECRET}", "the scheme 'https'"),
    ],
)
def test_a_wrong_address_is_said_with_what_was_expected_and_without_a_secret(text: str, said: str) -> None:
    with pytest.raises(WrongSettings) as raised:
        parse_address(text, "--to")
    assert str(raised.value).startswith("--to: expected ")
    assert said in str(raised.value)
    assert SECRET not in str(raised.value)


def test_all_that_is_wrong_in_the_environment_is_said_at_once(tmp_path: Path) -> None:
    missing = {"AZURE_STORAGE_ACCOUNT_KEY_FILE": str(tmp_path / "missing"), "AZURE_CLIENT_SECRET_FILE": SECRET}
    with pytest.raises(WrongSettings) as raised:
        open_store("az://container", missing)
    assert [problem.variable for problem in raised.value.problems] == [*missing]
    assert SECRET not in str(raised.value)
    with pytest.raises(WrongSettings, match=r"AZURE_STORAGE_ACCOUNT_NAME: expected the name of the account"):
        open_store("az://container", {"AZURE_STORAGE_ACCOUNT_KEY": SECRET})
    with pytest.raises(WrongSettings, match=r"AWS_PROFILE: expected AWS_ACCESS_KEY_ID and .*, got a profile"):
        open_store("s3://bucket", {"AWS_PROFILE": "work"})


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("/backup", {}),
        ("s3://bucket/a", s3_environ(1)),
        ("az://container/a", AZURE_ENVIRON),
        ("abfs://container@account1.dfs.core.windows.net", {"AZURE_STORAGE_SAS_TOKEN": SECRET}),
        ("az://container", {"AZURE_STORAGE_ACCOUNT": ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY}),
        ("gs://bucket/a", {"GOOGLE_BEARER_TOKEN": SECRET}),
    ],
)
def test_a_store_is_opened_without_asking_it(text: str, environ: dict[str, str]) -> None:
    store = open_store(text, environ)
    assert store.where == text.replace(".dfs.core.windows.net", "")
    assert isinstance(store, LocalStore) == (text == "/backup")


def test_a_connection_string_of_azure_has_account_key_and_endpoint() -> None:
    def values(text: str) -> dict[str, str]:
        return Login.read(AZURE, Environment({"AZURE_STORAGE_CONNECTION_STRING": text})).values()

    login = f"DefaultEndpointsProtocol=https;AccountName={ACCOUNT};AccountKey={ACCOUNT_KEY};"
    assert values(login + "EndpointSuffix=core.windows.net") == {
        "account_name": ACCOUNT,
        "account_key": ACCOUNT_KEY,
        "endpoint": f"https://{ACCOUNT}.blob.core.windows.net",
    }
    assert values(login + "BlobEndpoint=http://127.0.0.1:1/a;")["endpoint"] == "http://127.0.0.1:1/a"
    assert values("AccountName=a;SharedAccessSignature=sv=1&sig=x") == {"account_name": "a", "sas_key": "sv=1&sig=x"}


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("gs://bucket", {"GOOGLE_SERVICE_ACCOUNT_KEY": f'{{"private_key": "{SECRET}"'}),
        ("az://container", {**AZURE_ENVIRON, "AZURE_STORAGE_ACCOUNT_KEY": f"{SECRET} no base64"}),
    ],
)
async def test_a_login_that_cannot_be_one_is_refused_without_showing_it(text: str, environ: dict[str, str]) -> None:
    with pytest.raises(StoreRefused, match=r"expected a login that obstore understands for .*: look at ") as raised:
        await open_store(text, environ).read("a")
    assert SECRET not in str(raised.value)


def test_the_page_names_every_login_and_every_right() -> None:
    page = (ROOT / "docs" / "archive-stores.md").read_text()
    for cloud in (S3, AZURE, GCS):
        for text in (*cloud.secrets, *(right.partition(",")[0] for right in cloud.rights.values())):
            assert text in page


def test_without_the_extra_a_folder_works_and_a_cloud_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys, anyio; sys.modules.update(obstore=None);"
        "from collector.archive.stores.opening import open_store;"
        "print(anyio.run(open_store(sys.argv[1], {}).create, 'a', b''));"
        "open_store('s3://bucket', {}, name='--to')"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "True\n"
    assert "StoreRefused: --to: expected obstore to be installed for s3://bucket" in ended.stderr
    assert ended.stderr.endswith("install it: pip install 'transfer-collector[archive]'\n")
