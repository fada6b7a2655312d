"""Modules named on the command line: installed modules, and those of the working directory."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType


def import_here(name: str) -> ModuleType:
    """Import a module by name: an installed module first, then one in the working directory.

    `python -m` searches the working directory, and an installed command does not; a user who names a local file means
    that file. Raises ImportError, or any error of the module itself.
    """
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    return importlib.import_module(name)
