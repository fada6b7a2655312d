"""Loads the configuration. Precedence: flags, environment, file, defaults."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from streaming_queue.config.backends import sections
from streaming_queue.config.keys import Setting
from streaming_queue.config.merging import merge
from streaming_queue.config.root import KEYS, Config

ENVIRONMENT_PREFIX = "STQ_"
RESERVED_VARIABLES = frozenset({"STQ_DEBUG"})
"""Variables with our prefix that are not settings."""

PROVIDER_VARIABLES: Mapping[str, str] = {
    "OPENAI_API_KEY": "core.openai_api_key",
    "OPENAI_BASE_URL": "core.openai_base_url",
    **{variable: f"{name}.{key}" for name, each in sections().items() for variable, key in each.variables.items()},
}
"""Variables of other tools -> keys. Our own variables take precedence."""

OWN = "the program's own choice"
"""The origin of values that the program gives by itself."""

OPERATOR_VARIABLE = f"{ENVIRONMENT_PREFIX}NETWORK__OPERATOR_TOKEN"
TOKEN_VARIABLES = (f"{ENVIRONMENT_PREFIX}NETWORK__TOKEN", OPERATOR_VARIABLE)

FLAGS: Mapping[str, str] = {
    "core.name": "--model",
    "output.dir": "--output",
    "core.type": "--llm",
    "qa.coordinator.data_file": "--questions",
    "qa.worker.count": "--workers",
    "qa.worker.endpoints": "--worker",
}
"""Key -> its flag, if the flag is not the key's last word (`network.topology`: `--topology`)."""


def load_config(
    path: str | os.PathLike[str] | None = None,
    *,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    otherwise: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration from a YAML file, the environment (default: the process's), `flags` and `sets`.

    `flags` maps dotted keys to values; None and an empty list are not given. `sets` holds the texts of `-s`,
    `key.path=value` with the value in YAML; they override `flags`, and a later text an earlier one.
    `otherwise` has the program's own values, for keys that are not given elsewhere.
    OPENAI_API_KEY is left out if `core.base_url` or `core.port` name another server than the provider's.
    Reads a file: not for the event loop.

    Raises:
        ConfigError: a key is unknown, a value is not allowed, two spellings of a key differ, the file cannot be
            read. The text names the key, the given value (secrets hidden) and its place.
    """
    environ = os.environ if environ is None else environ
    settings = merge(
        [
            KEYS.flatten(otherwise, OWN),
            KEYS.from_file(path) if path is not None else (),
            from_provider(environ),
            KEYS.from_environ(environ, ENVIRONMENT_PREFIX, reserved=RESERVED_VARIABLES),
            from_flags(flags or {}),
            KEYS.from_assignments(sets, "-s"),
        ]
    )
    key = settings.get("core.openai_api_key")
    local = any(name in settings and settings[name].value is not None for name in ("core.base_url", "core.port"))
    if local and key is not None and key.origin in PROVIDER_VARIABLES:
        del settings["core.openai_api_key"]
    return Config.from_settings(settings)


def from_provider(environ: Mapping[str, str]) -> Iterator[Setting]:
    """The settings in variables of other tools."""
    for variable, key in PROVIDER_VARIABLES.items():
        if environ.get(variable, "").strip():
            yield from KEYS.from_text(key, environ[variable], variable)


def from_flags(flags: Mapping[str, Any]) -> Iterator[Setting]:
    """The settings of flags, by dotted key."""
    for key, value in flags.items():
        if value is not None and value not in ((), []):
            flag = FLAGS.get(key) or f"--{key.rpartition('.')[2].replace('_', '-')}"
            yield from KEYS.flatten(value, flag, key=key)
