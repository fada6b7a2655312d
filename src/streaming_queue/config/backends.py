"""What concerns one protocol alone: a section of its name, whose keys are keywords of its backend."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr

from streaming_queue.config.redaction import revealed
from streaming_queue.config.section import Arguments, PathText, Positive, Section, Text


class BackendSection(Section):
    """The settings of one protocol, whose name is the class's in small letters."""

    def options(self) -> dict[str, Any]:
        """The keywords for its backend, secrets revealed; what is null is left out."""
        return {name: value for name, value in revealed(self).items() if value is not None}


def sections() -> dict[str, type[BackendSection]]:
    """The protocols that have a section, by name."""
    return {section.__name__.lower(): section for section in BackendSection.__subclasses__()}


class A2A(BackendSection):
    """The interfaces of A2A, for the protocol a2a."""

    grpc: bool = Field(
        False, description="Serve agents by gRPC, too, on a free port of its own, which their cards name (extra grpc)."
    )
    binding: Literal["JSONRPC", "HTTP+JSON", "GRPC"] = Field(
        "JSONRPC",
        description="The interface by which agents are asked where their cards offer it; where not, or where gRPC "
        "cannot be used or connected to, another of theirs, which is logged.",
    )


class Anp(BackendSection):
    """Who we are and whom we trust, for the protocol anp."""

    identity: PathText | None = Field(
        None,
        description="Directory that `stq anp identity new` made: whom agents are called as, and whom those hosted here "
        "say they are. null: identities that live as long as the process.",
    )
    trusted: tuple[Text, ...] = Field(
        (),
        description="Who may call agents hosted here: DIDs, files and directories of DID documents, or `*`, whoever "
        "proves a DID. None: the processes of this user. Our own identity always may.",
    )
    operators: tuple[Text, ...] = Field(
        (),
        description="DIDs, of those that are trusted, that may command a coordinator hosted here: dispatch, attach, "
        "join, leave. None: what this process itself sends; where trusted is empty, too, all may dispatch and attach.",
    )
    allow_private: bool = Field(
        False, description="Fetch the DID documents of trusted DIDs from addresses that are not public, too."
    )
    method: Text | None = Field(
        None, description="The method by which agents of others are asked, where they offer several. null: `ask`."
    )


class Agora(BackendSection):
    """The documents of others, for the protocol agora."""

    sources: tuple[Text, ...] = Field(
        (),
        description="Where a hosted agent may take protocol documents from that it does not know, to have them "
        "followed by its model: origins like https://example.org, and data: for those that come along. "
        "Others are rejected.",
    )


class Mcp(BackendSection):
    """What is asked of a server of tools, for the protocol mcp. What is null is found by the tools' own schemas."""

    tool: Text | None = Field(None, description="The tool to call.")
    argument: Text | None = Field(None, description="The argument of it that takes the question.")
    arguments: Annotated[dict[str, Any], AfterValidator(Arguments)] = Field(
        {}, validate_default=True, description="What its other arguments are given, the same in every call."
    )
    version: Literal["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"] = Field(
        "2026-07-28", description="The newest revision of MCP that is offered to a server."
    )
    environment: tuple[Text, ...] = Field(
        (), description="Names of variables that a server gets which a command starts, beside the usual ones."
    )
    start_timeout_s: Positive = Field(
        60.0, description="How long a server that a command starts may take until it answers, in seconds."
    )


class Nats(BackendSection):
    """The NATS server where agents are hosted, for the protocol nats."""

    url: SecretStr | None = Field(
        None,
        description="nats://[user:password@ or token@]host[:port], or tls://; null: a server of our own, on loopback. "
        "Also NATS_URL. Never shown.",
    )
    credentials: PathText | None = Field(
        None, description="File with a JWT and its seed, for a server that wants one. Also NATS_CREDS."
    )
    prefix: Text | None = Field(
        None,
        description="Begins the subjects of agents hosted here; agents of one id and prefix, in whatever process, are "
        "instances of one agent. null: no other process has their subjects.",
    )
