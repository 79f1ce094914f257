"""The package's page: the README with links that work outside of the repository, under `Source` of `[project.urls]`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)(\[[^\]]*\])\((?!https?://|#)([^)]+)\)")


class ReadmeOfThePackage(MetadataHookInterface):
    """Makes the readme of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme`."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute(text, metadata["urls"]["Source"])}


def absolute(text: str, source: str) -> str:
    """Return Markdown with its relative links made absolute; a picture's link leads to its bytes."""
    return _LINK.sub(lambda found: _link(source, *found.groups()), text)


def _link(source: str, picture: str, title: str, path: str) -> str:
    return f"{picture}{title}({source}/{'raw' if picture else 'blob'}/main/{path})"
