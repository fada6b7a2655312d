"""The forms of an address: a URL, or a command whose standard input and output are spoken to."""

from __future__ import annotations

import shlex

from streaming_queue.errors import ConfigError
from streaming_queue.masking import masked

STDIO = "stdio"
SCHEMES = ("http", "https", STDIO)


def command_of(agent_id: str, address: str) -> tuple[str, ...] | None:
    """The command in `stdio:python server.py`, split like a shell does; None where the address is a URL.

    Raises ConfigError where it is neither.
    """
    scheme, _, rest = address.partition(":")
    if scheme != STDIO:
        if scheme not in SCHEMES:
            raise ConfigError(
                f"agent {agent_id!r}: address {masked(address)!r} must be http://host:port/mcp, https://..., "
                "or stdio: and a command, like stdio:python server.py"
            )
        return None
    try:
        command = tuple(shlex.split(rest))
    except ValueError as error:
        raise ConfigError(
            f"agent {agent_id!r}: the command of address {masked(address)!r} cannot be read: {error}"
        ) from error
    if not command:
        raise ConfigError(f"agent {agent_id!r}: address {address!r} has no command, like stdio:python server.py")
    return command
