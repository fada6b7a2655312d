"""Write a new protocol's package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streaming_queue import __version__
from streaming_queue.errors import ConfigError
from streaming_queue.scaffold.names import Names

TEMPLATE = Path(__file__).with_name("template")
FILES = (
    *("README.md", "pyproject.toml", ".github/workflows/ci.yml", "tests/test_conformance.py", "src/new_proto/py.typed"),
    *(f"src/new_proto/{name}.py" for name in ("__init__", "address", "codec", "comm", "connection", "host")),
)
"""The files of the template. Tools leave further files there."""
TODO = "# TODO:"


@dataclass(frozen=True, slots=True)
class Package:
    """A written package: its names, its folder, and the places (`path:line`) for the author's own protocol."""

    names: Names
    directory: Path
    todos: tuple[str, ...]


def new_package(name: str, directory: Path | None = None) -> Package:
    """Write the package of the protocol `name` into `directory`, by default a folder of that name here.

    Raises:
        ConfigError: the name cannot be used, the folder holds something, or cannot be written.
    """
    names = Names.of(name)
    target = Path(names.protocol) if directory is None else directory
    files = render(names)
    try:
        if target.exists() and not (target.is_dir() and not any(target.iterdir())):
            raise ConfigError(f"{target} is there already, and nothing is overwritten: choose another folder with -o")
        for path, text in files.items():
            file = target / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error}: choose another folder with -o") from error
    return Package(names, target, tuple(_todos(files)))


def render(names: Names) -> Mapping[str, str]:
    """The files of a package: their paths with slashes, and their texts."""
    forms = {
        "new-proto": names.protocol,
        "new_proto": names.package,
        "NewProto": names.prefix,
        "streaming-queue>=0": f"streaming-queue>={__version__}",
    }
    return {_renamed(path, forms): _renamed((TEMPLATE / path).read_text(encoding="utf-8"), forms) for path in FILES}


def _renamed(text: str, forms: Mapping[str, str]) -> str:
    for template_form, form in forms.items():
        text = text.replace(template_form, form)
    return text


def _todos(files: Mapping[str, str]) -> list[str]:
    return [
        f"{path}:{number}"
        for path, text in files.items()
        for number, line in enumerate(text.splitlines(), 1)
        if TODO in line
    ]
