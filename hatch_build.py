"""The description in the package's metadata: the README, without the links that lead nowhere from there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

DOCUMENTS = "The documents are in the folder `docs` of the source distribution."


def description(readme: str) -> str:
    """The README without its list of documents and other languages; a link that leads nowhere else is its text."""
    readme = re.sub(r"(?m)^\[[^]]*\]\(README\.[^)]*\)\n+", "", readme)
    readme = re.sub(r"(?ms)^## Documents\n\n.*?\n\n", f"## Documents\n\n{DOCUMENTS}\n\n", readme)
    return re.sub(r"\[([^]]+)\]\((?!https?:)[^)]*\)", r"\1", readme)


class Description(MetadataHookInterface):
    """Found by its base class."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme`."""
        readme = Path(self.root, "README.md").read_text("utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": description(readme)}
