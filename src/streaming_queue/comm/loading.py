"""Modules that people name on the command line: installed ones, and those of the working directory."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType


def import_here(name: str) -> ModuleType:
    """Import a module by name; one in the working directory is found too, after everything that is installed.

    `python -m` looks there and an installed command does not, yet people who name a file beside them mean that file.
    Raises ImportError, or what the module itself raises.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    return importlib.import_module(name)
