"""A folder as a store: a file is whole, durable and created once, whatever step a kill or a failure comes in."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.archive.stores import check_path, folder
from collector.archive.stores.folder import Folder
from collector.errors import NotThere, StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATH = "orders/region=eu/date=2030-12-31/00000001.ndjson"
DATA = bytes(range(256)) * 1000
STEPS = ("open", "write", "fsync", "link", "mkdir", "unlink", "dup")
MANY_STEPS = 60


class Killed(BaseException):
    """The process was killed here."""


@pytest.fixture(params=["unnamed", "named"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder on a file system with and without files that have no name."""
    if request.param == "named":
        monkeypatch.setattr(folder, "_OPEN_FILES", Path("/nowhere"))
    return tmp_path


@contextmanager
def at_step(monkeypatch: pytest.MonkeyPatch, step: int, what: BaseException) -> Iterator[list[str]]:
    """Have the n-th call of the system fail; a write has written one half then. Yield the calls."""
    calls: list[str] = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **named: Any) -> Any:
            calls.append(name)
            if len(calls) == step:
                if name == "write":
                    call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                raise what
            return call(*arguments, **named)

        return instead

    with monkeypatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, counted(name, getattr(os, name)))
        yield calls


def files(root: Path) -> list[str]:
    """Return every file below a folder, hidden ones too."""
    return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]


def create(store: Folder) -> StoreUnavailable | None:
    """Create the object, and return what the store said in place of an answer."""
    try:
        assert store.create(PATH, DATA)
    except StoreUnavailable as exc:
        return exc
    return None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ESTALE, errno.ETIMEDOUT])
def test_a_failure_at_any_step_leaves_no_part_and_the_same_create_again_works(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    failed = 0
    for step in range(1, MANY_STEPS):
        place = root / str(step)
        place.mkdir()
        store = Folder(place)
        with at_step(monkeypatch, step, OSError(number, os.strerror(number))) as calls:
            told = create(store)
        if told is not None:
            failed += 1
            assert errno.errorcode[number] in str(told)
            assert told.ambiguous or not (place / PATH).exists()
            assert store.create(PATH, DATA) or told.ambiguous, "nobody else has created it"
        assert store.read(PATH) == DATA
        assert [name for name in files(place) if not name.startswith(".collector/")] == [PATH]
        assert files(place) == [PATH] or calls[step - 1] == "unlink", "a file is left only where it cannot be removed"
        if len(calls) < step:
            assert failed > 10
            return
    pytest.fail("expected a run that does not fail")


def test_a_kill_at_any_step_leaves_no_part_in_the_way_of_readers_or_of_the_next_creator(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, MANY_STEPS):
        place, killed = root / str(step), False
        place.mkdir()
        with at_step(monkeypatch, step, Killed()):
            monkeypatch.setattr(os, "unlink", lambda *_, **__: None)  # a killed process removes nothing
            try:
                Folder(place).create(PATH, DATA)
            except Killed:
                killed = True
        whole = (place / PATH).exists()
        assert not whole or (place / PATH).read_bytes() == DATA
        left = [name for name in files(place) if name != PATH]
        assert all(name.startswith(".collector/") for name in left)
        assert Folder(place).create(PATH, DATA) is not whole
        assert Folder(place).after("", "") == [PATH]
        if not killed:
            return
    pytest.fail("expected a run that is not killed")


def test_files_of_killed_writers_are_removed_later_and_those_of_living_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "_OPEN_FILES", Path("/nowhere"))
    hidden = tmp_path / ".collector"
    hidden.mkdir()
    for name, age in (("dead.new", 3700.0), ("living.new", 10.0), ("other", 9e6)):
        (hidden / name).write_bytes(b"part")
        moment = (hidden / name).stat().st_mtime - age
        os.utime(hidden / name, (moment, moment))
    Folder(tmp_path).create(PATH, DATA)
    assert sorted(path.name for path in hidden.iterdir()) == ["living.new", "other"]


def test_names_of_folders_are_synced_by_each_process_also_when_another_one_made_them(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain = [root, *(root / part for part in ("orders", "orders/region=eu", "orders/region=eu/date=2030-12-31"))]
    chain[-1].mkdir(parents=True)
    synced: list[Path] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    store = Folder(root)
    assert store.create(PATH, DATA)
    assert set(chain) <= set(synced)
    synced.clear()
    assert store.create(PATH + "2", DATA)
    assert chain[-1] in synced
    assert chain[0] not in synced, "its names are known to be durable"
    synced.clear()
    assert not Folder(root).create(PATH, DATA)
    assert {root / PATH, *chain} == set(synced), "the creator may have been killed before it synced them"


def test_a_file_is_synced_before_it_has_its_name_and_the_name_after_that(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, link, store = os.fsync, os.link, Folder(root)

    def synced(descriptor: int) -> None:
        calls.append("file" if stat.S_ISREG(os.fstat(descriptor).st_mode) else "folder")
        fsync(descriptor)

    def linked(*arguments: Any, **named: Any) -> None:
        calls.append("link")
        link(*arguments, **named)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    store.create(PATH + "3", DATA)
    place = calls.index("link")
    assert calls.count("file") == 1
    assert calls.index("file") < place
    assert calls[place + 1 :] == ["folder"]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing", r"folder .* of the archive to be there, but it is not: mount it, or make it"),
        ("another", r"to be the folder that it was, got another one: mount the archive again"),
        ("a file", r"ENOTDIR .*: remove or rename the file"),
        ("a file in the way", r"to create orders/.* got ENOTDIR .*: remove or rename the file"),
        ("a folder in the way", r"EISDIR .*: remove or rename the folder"),
        ("a circle", r"ELOOP .*: remove the symbolic links"),
    ],
)
def test_a_folder_that_somebody_has_to_change_is_refused_with_what_to_do(root: Path, what: str, said: str) -> None:
    place = root / "archive"
    place.mkdir()
    store = Folder(place)
    store.create("first", b"1")
    if what in {"missing", "another", "a file"}:
        place.rename(root / "moved")
    if what == "another":
        place.mkdir()
    elif what == "a file":
        place.write_bytes(b"")
    elif what == "a file in the way":
        (place / "orders").write_bytes(b"")
    elif what == "a folder in the way":
        (place / PATH).mkdir(parents=True)
    elif what == "a circle":
        (place / "orders").symlink_to("orders")
    with pytest.raises(StoreRefused, match=said):
        store.create(PATH, DATA)
    if what in {"missing", "another", "a file"}:
        for call in (lambda: store.read("first"), lambda: store.after("", "")):
            with pytest.raises(StoreRefused, match=said):
                call()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV, errno.EMLINK])
def test_no_right_and_no_hard_links_are_refused_with_what_to_do(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(StoreRefused, match=f"{errno.errorcode[number]} .*: \\w+"):
        Folder(root).create(PATH, DATA)
    assert files(root) == []


def test_a_limit_of_file_sizes_is_said_and_leaves_nothing(root: Path) -> None:
    child = (
        "import resource, sys; from pathlib import Path; from collector.archive.stores.folder import Folder;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536));"
        "Folder(Path(sys.argv[1])).create('a/b', bytes(10**6))"
    )
    ended = subprocess.run([sys.executable, "-c", child, root], capture_output=True, text=True, timeout=60, check=False)
    assert re.search(r"StoreUnavailable: expected to create a/b in .*, got EFBIG .*: raise the limit", ended.stderr)
    assert files(root) == []


def test_a_full_disk_is_said_and_the_create_works_when_there_is_room(root: Path) -> None:
    if not shutil.which("unshare") or subprocess.run(["unshare", "-Urm", "true"], check=False).returncode:
        pytest.skip("no user namespaces here, in which a small disk could be mounted")
    child = """
import subprocess, sys
from pathlib import Path
from collector.archive.stores.folder import Folder
from collector.errors import StoreUnavailable
root = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", root], check=True)
(root / "other").write_bytes(bytes(600_000))
store = Folder(root)
try:
    store.create("a/b", bytes(700_000))
except StoreUnavailable as exc:
    print(exc, exc.ambiguous, [path.name for path in root.rglob("*") if path.is_file()])
(root / "other").unlink()
print(store.create("a/b", bytes(700_000)), len(store.read("a/b")))
"""
    command = ["unshare", "-Urm", sys.executable, "-c", child, str(root)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "got ENOSPC (No space left on device): make room False ['other']\nTrue 700000\n" in ended.stdout, ended


def test_what_is_not_there_is_told_from_a_folder_that_is_not_there(root: Path) -> None:
    store = Folder(root)
    with pytest.raises(NotThere, match=f"expected an object a/b in {root}, but there is none"):
        store.read("a/b")
    assert store.after("a", "") == []
    root.rename(root.parent / "moved")
    with pytest.raises(StoreRefused):
        store.read("a/b")
    (root.parent / "moved").rename(root)


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/", "a//b", "../a", "a/../../b", "./a", "a\\b", "a\0b", "a\nb", "é" * 451, "a" * 256, "\udce4"],
)
def test_a_path_that_not_every_store_can_have_is_refused(tmp_path: Path, path: str) -> None:
    for call in (
        lambda: check_path(path),
        lambda: Folder(tmp_path).create(path, b""),
        lambda: Folder(tmp_path).read(path),
    ):
        with pytest.raises(StoreRefused, match=r"expected a path .*, got .*: change the template"):
            call()
    assert files(tmp_path) == []


def test_a_path_that_no_list_would_show_is_refused_and_what_is_there_is_no_part_of_the_archive(root: Path) -> None:
    for hidden in (".collector/x", "lost+found/x"):
        with pytest.raises(StoreRefused, match="expected a path outside of"):
            Folder(root).create(hidden, b"")
        (root / hidden).parent.mkdir()
        (root / hidden).write_bytes(b"")
    Folder(root).create("a/.collector/x", b"")
    assert Folder(root).after("", "") == ["a/.collector/x"]


NAMES = st.lists(st.lists(st.sampled_from(["a", "a-", "a=1", "b.x", "ü", "0"]), min_size=1, max_size=3), max_size=12)


@settings(max_examples=40)
@given(NAMES, st.sampled_from(["", "a", "a/b.x", "a-/0", "b", "ü/ü"]), st.sampled_from(["", "a", "a/a=1", "a-"]))
def test_paths_after_another_are_those_that_are_greater(
    tmp_path_factory: pytest.TempPathFactory, names: list[list[str]], path: str, prefix: str
) -> None:
    store = Folder(tmp_path_factory.mktemp("after"))
    paths = {"/".join([*parts, f"{len(parts)}.end"]) for parts in names}
    for each in paths:
        store.create(each, b"")
    inside = [each for each in paths if each.startswith(f"{prefix}/") or not prefix]
    assert store.after(prefix, path) == sorted(each for each in inside if each > path)
