"""Every setting of a run: models, defaults, rules, and how they are loaded. Protocols add their own sections.

Each name is imported when it is first used: a backend's section imports its base class before the whole is built.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streaming_queue.config.auto import AUTO, Auto
    from streaming_queue.config.backends import BackendSection
    from streaming_queue.config.load import FLAGS, load_config
    from streaming_queue.config.model import Core, Mock
    from streaming_queue.config.resume import resume_config
    from streaming_queue.config.root import KEYS, Config

__all__ = ["AUTO", "FLAGS", "KEYS", "Auto", "BackendSection", "Config", "Core", "Mock", "load_config", "resume_config"]

_HOMES = {
    "auto": ("AUTO", "Auto"),
    "backends": ("BackendSection",),
    "load": ("FLAGS", "load_config"),
    "model": ("Core", "Mock"),
    "resume": ("resume_config",),
    "root": ("KEYS", "Config"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
