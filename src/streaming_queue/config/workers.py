"""The workers of a mixed network by groups, and the set-up of one worker of any run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from streaming_queue.config.backends import BackendSection, section_key, sections
from streaming_queue.config.model import Core
from streaming_queue.config.section import (
    Addresses,
    ByName,
    Section,
    Text,
    WorkerCount,
    checked_by,
    listed,
    refuse_unknown,
    values_given,
)

_SERVER = ("base_url", "port", "openai_base_url")
"""The keys of `core` with the address of the model."""
_OF_A_SERVER = ("type", "openai_api_key", *_SERVER)
"""The keys of the run's `core` that a group ignores if the group names its own server."""


@dataclass(frozen=True, slots=True)
class WorkerSetup:
    """One worker: its protocol, its address (None: the run starts it) and its model.

    `options` is the section of its protocol, None if the protocol has none.
    """

    protocol: str
    core: Core
    options: BackendSection | None = None
    address: str | None = None


class WorkerGroup(Section):
    """Workers of one kind. `core` and `options` hold only what differs from the run's own."""

    protocol: Text | None = None
    """Protocol of these workers. null: the protocol of the run."""
    count: WorkerCount | None = None
    """Number of workers to start. null: one."""
    endpoints: Addresses = ()
    """Addresses of workers that run already, in place of a count."""
    core: Annotated[
        dict[str, Any],
        BeforeValidator(lambda given: values_given(Core, "core", given), json_schema_input_type=Core),
        AfterValidator(ByName),
    ] = Field({}, validate_default=True)
    """Keys of core. Other keys are as in core."""
    options: Annotated[dict[str, Any], AfterValidator(ByName)] = Field({}, validate_default=True)
    """Keys of the protocol's own section. Other keys are as there."""

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, given: Any) -> Any:
        if isinstance(given, cls):
            return given
        if not isinstance(given, Mapping):
            raise ValueError("must be a mapping, like {protocol: http, count: 2}")  # noqa: TRY004 (pydantic wants it)
        refuse_unknown("it", given, cls.model_fields)
        if not given.get("options"):
            return given
        protocol, known = given.get("protocol"), sections()
        section = known.get(section_key(str(protocol)))
        if section is None:
            whose = "no protocol is named" if protocol is None else f"the protocol {protocol!r} has none"
            raise ValueError(f"options: {whose}; those of {', '.join(known)} are known")
        return {**given, "options": values_given(section, "options", given["options"])}

    @model_validator(mode="after")
    def _started_or_there(self) -> Self:
        if self.count is not None and self.endpoints:
            raise ValueError("has a count and endpoints: give count to start workers, or endpoints of running workers")
        return self

    def setups(self, protocol: str, core: Core, section: BackendSection | None) -> list[WorkerSetup]:
        """The group's workers in order. `protocol` and `core` are the run's, `section` is that of the group's protocol.

        Raises ValueError if the group and the run do not fit together.
        """
        setup = WorkerSetup(self.protocol or protocol, self._core(core), section)
        if section is not None and self.options:
            options = checked_by(type(section), "options", {**dict(section), **self.options})
            setup = replace(setup, options=options)
        if self.endpoints:
            return [replace(setup, address=address) for address in self.endpoints]
        return [setup] * (self.count or 1)

    def _core(self, run: Core) -> Core:
        if not self.core:
            return run
        has_server = any(self.core.get(key) is not None for key in _SERVER)
        kept = {key: value for key, value in run if not (has_server and key in _OF_A_SERVER)}
        return checked_by(Core, "core", {**kept, **self.core})


_GROUPS = (
    "a list of groups, like [{protocol: http}, {protocol: ws, count: 2}]; for workers of one kind give qa.worker.count"
)
WorkerGroups = Annotated[tuple[WorkerGroup, ...], listed(_GROUPS, json_schema_input_type=list[WorkerGroup])]
