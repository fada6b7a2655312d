"""Check the installed protocols and the SDK of the provider."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from streaming_queue.comm import registry
from streaming_queue.doctor.finding import Finding, ok, warning
from streaming_queue.errors import BackendNotInstalledError, ConfigError
from streaming_queue.extras import install_command


def protocols() -> list[Finding]:
    """List the usable protocols, and the commands that install the others."""
    usable, installs, broken = [], dict[str, str](), list[Finding]()
    for name, spec in sorted(registry.known().items()):
        try:
            registry.load(name)
        except BackendNotInstalledError:
            installs[name] = spec.install
        except Exception as error:  # a broken package of a third party must not hide the others
            reason = str(error) if isinstance(error, ConfigError) else type(error).__name__
            broken.append(warning("protocols", f"{name} cannot be loaded: {reason}", f"update or remove {spec.target}"))
        else:
            usable.append(name)
    seen = f"usable: {', '.join(usable)}" + (f"; not installed: {', '.join(installs)}" if installs else "")
    return [ok("protocols", seen, "; ".join(dict.fromkeys(installs.values())) or None), *broken]


def protocol(name: str) -> list[Finding]:
    """Check that the protocol `name` is usable. Raises like `registry.load`."""
    registry.load(name)
    return [ok("protocol", name)]


def openai_sdk() -> list[Finding]:
    """Check that models behind OpenAI's API can be asked."""
    if find_spec("openai") is None:
        return [ok("openai", "the SDK is not installed: no model but the mock", install_command("openai"))]
    try:
        return [ok("openai", f"SDK {version('openai')}")]
    except PackageNotFoundError:
        return [ok("openai", "the SDK, of an unknown version")]
