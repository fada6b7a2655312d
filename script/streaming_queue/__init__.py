"""The guide's address of the package: `script.streaming_queue.X` is `streaming_queue.X`, the same object.

Backends and runners that lie beside this file (the guide's 2.1) are modules of the package too, so
`python -m script.streaming_queue.runner.run_<proto>` runs one from a checkout.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType

import streaming_queue
from streaming_queue.comm.checkout import extend
from streaming_queue.errors import ConfigError


class _Alias(MetaPathFinder, InspectLoader):
    """Finds `script.streaming_queue.X` and gives `streaming_queue.X`, found and made by whatever finds that."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if not fullname.startswith(f"{__name__}."):
            return None
        real = find_spec(_real(fullname))
        if real is None:
            return None
        alias = ModuleSpec(fullname, self, origin=real.origin, is_package=real.submodule_search_locations is not None)
        alias.has_location = real.has_location
        return alias

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = import_module(_real(module.__name__))  # the import takes what stands there

    def get_code(self, fullname: str) -> CodeType | None:
        """For `python -m`, which runs the code in a module of its own."""
        real = find_spec(_real(fullname))
        return real.loader.get_code(real.name) if real and isinstance(real.loader, InspectLoader) else None

    def get_source(self, fullname: str) -> str | None:
        real = find_spec(_real(fullname))
        return real.loader.get_source(real.name) if real and isinstance(real.loader, InspectLoader) else None


def _real(name: str) -> str:
    return name.removeprefix("script.")


try:
    for _package in ("protocol_backend", "runner"):
        extend(import_module(f"streaming_queue.{_package}").__path__, Path(__file__).parent / _package)
except ConfigError as _error:
    sys.stderr.write(f"{_error}\n")
    raise SystemExit(2) from None
sys.meta_path.insert(0, _Alias())
sys.modules[__name__] = streaming_queue
