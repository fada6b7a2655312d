"""Protocols by name: the place and the needs of each backend. A backend is imported when it is first used."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from streaming_queue.comm import checkout
from streaming_queue.comm.base import BaseCommBackend
from streaming_queue.comm.loading import import_here
from streaming_queue.errors import BackendNotInstalledError, ConfigError, UnknownProtocolError
from streaming_queue.extras import install_command

ENTRY_POINT_GROUP = "streaming_queue.backends"
SECTION_GROUP = "streaming_queue.sections"
"""Entry points with the name of a protocol, for the configuration section of its backend."""
BACKENDS = "streaming_queue.protocol_backend"


@dataclass(frozen=True, slots=True)
class BackendSpec:
    """Where a backend is: `target` is `package.module:Class`. `extra` installs the libraries that it imports.

    Without a class, `target` means the module's own class whose name ends with `CommBackend`. `section` is the
    `package.module:Class` of the backend's configuration section. Its module imports no library of the protocol.
    """

    name: str
    target: str
    summary: str
    extra: str | None = None
    section: str | None = None

    @property
    def install(self) -> str:
        """How to install the needs of the backend: a command if we know it."""
        return install_command(self.extra) if self.extra else "install the package that provides it"


def _ours(
    name: str, backend: str, summary: str, *, extra: str | None = None, section: str | None = None
) -> BackendSpec:
    home = f"{BACKENDS}.{name}"
    return BackendSpec(name, f"{home}.comm:{backend}", summary, extra, section and f"{home}.options:{section}")


BUILTIN: tuple[BackendSpec, ...] = (
    _ours("inproc", "InprocCommBackend", "function calls, no wire"),
    _ours("http", "HttpCommBackend", "a small JSON contract"),
    _ours("a2a", "A2ACommBackend", "Agent2Agent 1.0, and 0.3", section="A2A"),
    _ours("acp", "AcpCommBackend", "Agent Communication Protocol 0.2"),
    _ours("grpc", "GrpcCommBackend", "a small gRPC service, with health and reflection", extra="grpc"),
    _ours("ws", "WsCommBackend", "one WebSocket connection a peer", extra="ws"),
    _ours("anp", "AnpCommBackend", "Agent Network Protocol: did:wba identities, JSON-RPC", extra="anp", section="Anp"),
    _ours("agora", "AgoraCommBackend", "natural language, or a protocol document agreed by hash", section="Agora"),
    _ours("mcp", "McpCommBackend", "the tools of MCP servers", section="Mcp"),
    _ours("nats", "NatsCommBackend", "request and reply over NATS", extra="nats", section="Nats"),
)
"""Our protocols, a line each. The configuration shows their sections in this order."""
DEFAULT = "a2a"
IN_PROCESS = "inproc"
"""The protocol without a wire: only their own process reaches its agents."""


def known() -> Mapping[str, BackendSpec]:
    """All protocols by name: ours, those in the checkout, and those that installed packages declare.

    Raises ConfigError if a backend in the checkout has the name of one of ours.
    """
    specs = {spec.name: spec for spec in BUILTIN}
    for folder in checkout.backends(importlib.import_module(BACKENDS).__path__):
        home = f"{BACKENDS}.{folder.name}"
        section = f"{home}.options:Options" if (folder / "options.py").exists() else None
        specs[folder.name] = BackendSpec(folder.name, f"{home}.comm", "from this checkout", section=section)
    declared = {entry.name: entry.value for entry in entry_points(group=SECTION_GROUP)}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        summary = f"from {entry.dist.name if entry.dist else entry.module}"
        specs.setdefault(entry.name, BackendSpec(entry.name, entry.value, summary, section=declared.get(entry.name)))
    return specs


def find(name: str) -> BackendSpec:
    """The spec for a name or a `package.module:Class`. Raises UnknownProtocolError with the nearest known name."""
    if ":" in name:
        return BackendSpec(name.rpartition(":")[2], name, "named by its class")
    if ours := next((spec for spec in BUILTIN if spec.name == name), None):
        return ours  # entry points are files on disk: our own protocols need no read
    specs = known()
    if name in specs:
        return specs[name]
    near = difflib.get_close_matches(name, specs, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise UnknownProtocolError(
        f"unknown protocol {name!r}: {hint}known are {', '.join(sorted(specs))}, or package.module:Class"
    )


def load(name: str) -> type[BaseCommBackend]:
    """The backend class for a name or a `package.module:Class`.

    Raises:
        UnknownProtocolError: no protocol has this name, or the module has no such class.
        BackendNotInstalledError: a library of the backend is missing.
    """
    spec = find(name)
    module_name, _, attribute = spec.target.partition(":")
    try:
        module = import_here(module_name) if ":" in name else importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UnknownProtocolError(f"protocol {name!r}: there is no module {error.name!r}") from error
        raise BackendNotInstalledError(f"protocol {name!r} needs {error.name!r}: {spec.install}") from error
    backend = getattr(module, attribute, None) if attribute else _own_backend(module)
    if not isinstance(backend, type):
        raise UnknownProtocolError(
            f"protocol {name!r}: module {module_name!r} has no class {attribute or '...CommBackend'!r}"
        )
    missing = [
        method for method in ("send", "health_check", "register_endpoint", "close") if not hasattr(backend, method)
    ]
    if missing:
        raise ConfigError(f"protocol {name!r}: {backend.__name__} is not a backend: it lacks {', '.join(missing)}")
    return backend


def _own_backend(module: ModuleType) -> type[Any] | None:
    own = (each for each in vars(module).values() if isinstance(each, type) and each.__module__ == module.__name__)
    return next((each for each in own if each.__name__.endswith("CommBackend")), None)


def create(name: str, **options: Any) -> BaseCommBackend:
    """A backend by name, with `options` (its constructor's keywords). Raises like `load`."""
    return load(name)(**options)
