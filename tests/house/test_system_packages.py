"""Tests that need a program of the system: skipped with a hint where it is missing, and failing in CI."""

from __future__ import annotations

import shutil

import pytest

from tests.support.object_stores import needed_azurite
from tests.support.system_packages import needs


def skipped(*programs: str) -> tuple[bool, str]:
    """Return whether a test that needs these programs is skipped, and what is said then."""
    mark = needs(*programs).mark
    return mark.args[0], mark.kwargs["reason"]


def test_what_is_missing_is_named_with_the_package_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert skipped("prometheus", "promtool") == (
        True,
        "no prometheus and no promtool here: apt-get install prometheus",
    )


def test_in_ci_nothing_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "1")
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert skipped("promtool")[0] is False


def test_what_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    assert skipped("promtool") == (False, "")


def test_azurite_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"npm ci --prefix .venv/azurite"):
        needed_azurite()
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match=r"npm ci --prefix .venv/azurite"):
        needed_azurite()
