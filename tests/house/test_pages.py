"""The pages of the repository: every link leads somewhere, on the package's page too."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from hatch_build import absolute

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") or part == "node_modules" for part in path.relative_to(ROOT).parts)
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    return FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page are called in its address, as GitHub and GitLab make it."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_pages_are_found() -> None:
    names = {page.relative_to(ROOT).as_posix() for page in PAGES}
    assert names >= {"README.md", "CHANGELOG.md", "docs/design.md", "docs/glossary.md", "grafana/README.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(text_of(page)) if not re.match(r"[a-z]+:", link)]
    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_short_and_says_first_what_a_logger_is() -> None:
    text = (ROOT / "README.md").read_text()
    assert "A **logger** is a named source of log entries" in " ".join(text.split("\n\n")[1].split())
    assert len(text.splitlines()) < 100
    assert len(text.split()) <= 1874 / 2


def test_the_page_of_the_package_has_absolute_links_alone_and_each_leads_to_a_file() -> None:
    core = ProjectMetadata(str(ROOT), PluginManager()).core
    source = core.urls["Source"]
    assert all(address.startswith(source) for address in core.urls.values())
    links = LINK.findall(core.readme)
    assert len(links) > 10
    for link in links:
        assert link.startswith(f"{source}/blob/main/"), link
        assert (ROOT / link.removeprefix(f"{source}/blob/main/")).exists(), link


def test_a_link_is_made_absolute_by_its_kind() -> None:
    source = "https://forge.example/project"
    assert absolute("![shown](docs/a.png) [page](docs/a.md#b)", source) == (
        f"![shown]({source}/raw/main/docs/a.png) [page]({source}/blob/main/docs/a.md#b)"
    )
    assert (
        absolute("[there](https://a.example/) [here](#below)", source) == "[there](https://a.example/) [here](#below)"
    )


def test_everything_that_a_page_links_to_is_in_the_repository() -> None:
    tracked = set(subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines())
    for page in PAGES:
        for link in LINK.findall(text_of(page)):
            target = (page.parent / link.partition("#")[0]).resolve()
            if not re.match(r"[a-z]+:", link) and target.is_file():
                assert target.relative_to(ROOT).as_posix() in tracked, link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    folders = "collector|transfer|tests|bench|grafana|deploy|docs|requirements"
    named = set(re.findall(rf"(?<![\w/.-])((?:{folders})/[\w./-]*\w)", page.read_text()))
    missing = [path for path in named if not (ROOT / path).exists() and not (page.parent / path).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_sentence_has_a_riddle_for_its_subject(page: Path) -> None:
    sentences = re.split(r"(?<=[.!?])\s+|\n\s*\n|^\s*(?:- |\d+\. |\|)", text_of(page), flags=re.MULTILINE)
    found = [one for one in sentences if re.match(r"\W*(What|Whoever|Whatever|Such)\b[^?|]*\.$", one)]
    assert found == []
