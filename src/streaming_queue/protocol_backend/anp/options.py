"""The configuration section of anp: its keys are keywords of the backend."""

from __future__ import annotations

from streaming_queue.config.backends import BackendSection
from streaming_queue.config.section import PathText, Text


class Anp(BackendSection):
    """Our identity and the trusted callers, for the protocol anp."""

    identity: PathText | None = None
    """Directory from `stq anp identity new`: the identity of our calls and of agents hosted here. null: identities
    that exist as long as the process."""
    trusted: tuple[Text, ...] = ()
    """Allowed callers of agents hosted here: DIDs, files and directories of DID documents, or `*` for each caller that
    proves a DID. None: the processes of this user. Our own identity is always allowed."""
    operators: tuple[Text, ...] = ()
    """Trusted DIDs that may command a coordinator hosted here: dispatch, attach, join, leave. None: this process only.
    If trusted is empty, too, all callers may dispatch and attach."""
    allow_private: bool = False
    """Also fetch the DID documents of trusted DIDs from addresses that are not public."""
    method: Text | None = None
    """Method for questions to foreign agents that offer several. null: `ask`."""
