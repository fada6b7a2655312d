"""The configuration of a resumed run: the settings in its directory, and those given now."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import SecretStr

from streaming_queue.config.kept_secrets import kept
from streaming_queue.config.keys import Setting, kinds
from streaming_queue.config.load import ENVIRONMENT_PREFIX, TOKEN_VARIABLES, from_flags, from_provider
from streaming_queue.config.merging import merge
from streaming_queue.config.redaction import is_hidden, leaves
from streaming_queue.config.root import KEYS, Config
from streaming_queue.config.trust import UnmarkedError, effects, is_marked
from streaming_queue.errors import ConfigError
from streaming_queue.masking import SECRET

RUN_FILE = "run.json"


def resume_config(
    settings: Mapping[str, Any],
    directory: str | os.PathLike[str],
    *,
    flags: Mapping[str, Any] | None = None,
    sets: Sequence[str] = (),
    environ: Mapping[str, str] | None = None,
    run_id: str | None = None,
    mark: object = None,
    trust: bool = False,
) -> Config:
    """The configuration to go on with the run in `directory`, from the `settings` in its `run.json`.

    `run.json` has no secrets: they come from the provider's own variables and TOKEN_VARIABLES. A setting with a hidden
    secret comes from the values kept for `run_id`, else from its own variable. A setting of a group of workers comes
    from `sets` only. `flags` and `sets` are as in `load_config`. Nothing else changes the settings of the run.
    Reads files: not for the event loop.

    Raises:
        UnmarkedError: a setting of `run.json` acts on this machine (`trust.effects`), `mark` is not this user's mark
            over them, and `trust` is off.
        ConfigError: as `load_config`; a secret is not known here.
    """
    environ = os.environ if environ is None else environ
    written = {setting.key: setting for setting in KEYS.flatten(settings, RUN_FILE)}
    known = _known(written.values(), settings, run_id)
    follows = {
        key: replace(setting, value=_replaced(setting.value, key, known))
        for key, setting in written.items()
        if not _is_left_out(setting)
    }
    if "workers" in follows and follows["workers"].value:  # all workers were in this list, so qa.worker has its default
        follows.pop("qa.worker.count", None)
        follows.pop("qa.worker.endpoints", None)
    hidden = [key for key, setting in follows.items() if _hiding(setting, known)]
    variables = {name: environ[name] for name in (*TOKEN_VARIABLES, *map(_variable, hidden)) if name in environ}
    others = merge([from_provider(environ), KEYS.from_environ(variables, ENVIRONMENT_PREFIX)])
    levels = [others.values(), follows.values(), from_flags(flags or {}), KEYS.from_assignments(sets, "-s")]
    place = {"output.dir": os.fspath(directory), "output.resume": True}
    merged = merge([*levels, from_flags(place)])
    from_run = {key: setting for key, setting in merged.items() if setting.origin == RUN_FILE}
    values = {key: written[key].value if key in from_run else setting.value for key, setting in merged.items()}
    acting = [effect for effect in effects(values) if any(effect.is_of(key) for key in from_run)]
    covered = effects({key: setting.value for key, setting in written.items()})
    if acting and not trust and not (set(acting) <= set(covered) and is_marked(covered, mark)):
        raise UnmarkedError.over(acting, os.path.join(directory, RUN_FILE))  # noqa: PTH118 (a text)
    for key, setting in from_run.items():
        if places := _hiding(setting, known):
            if key not in others:
                raise ConfigError(
                    f"{RUN_FILE}: {places[0]} is a secret or has one, and it is not kept here; give the setting again: "
                    f"-s '{key}=...', or {_variable(key)}"
                )
            merged[key] = others[key]
    return Config.from_settings(merged)


def _variable(key: str) -> str:
    """The variable that gives a key."""
    return f"{ENVIRONMENT_PREFIX}{key.upper().replace('.', '__')}"


def _known(written: Iterable[Setting], settings: Mapping[str, Any], run_id: str | None) -> dict[str, Any]:
    """The kept values of the settings with a hidden secret."""
    if run_id is None or not any(_hiding(setting, {}) for setting in written):
        return {}
    return kept(run_id, settings)


def _is_left_out(setting: Setting) -> bool:
    """Whether a value is a secret that is never kept. Such a secret comes from a variable, or not at all."""
    return setting.value == SECRET and SecretStr in kinds(KEYS.leaves[setting.key].annotation)


def _replaced(value: Any, place: str, known: Mapping[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return {name: _replaced(item, f"{place}.{name}", known) for name, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, f"{place}[{index}]", known) for index, item in enumerate(value)]
    return known.get(place, value) if is_hidden(value) else value


def _hiding(setting: Setting, known: Mapping[str, Any]) -> list[str]:
    """The places in a setting with a hidden secret that is not `known`."""
    return [place for place, item in leaves(setting.value, setting.key) if is_hidden(item) and place not in known]
