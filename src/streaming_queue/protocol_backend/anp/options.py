"""The configuration section of anp: its keys are keywords of the backend."""

from __future__ import annotations

from streaming_queue.config.backends import BackendSection
from streaming_queue.config.section import PathText, Text


class Anp(BackendSection):
    """Who we are and whom we trust, for the protocol anp."""

    identity: PathText | None = None
    """Directory that `stq anp identity new` made: the identity of our calls and of agents hosted here. null: identities
    that live as long as the process."""
    trusted: tuple[Text, ...] = ()
    """Who may call agents hosted here: DIDs, files and directories of DID documents, or `*` for each caller that proves
    a DID. None: the processes of this user. Our own identity always may."""
    operators: tuple[Text, ...] = ()
    """Trusted DIDs that may command a coordinator hosted here: dispatch, attach, join, leave. None: this process alone.
    Where trusted is empty, too, all may dispatch and attach."""
    allow_private: bool = False
    """Fetch the DID documents of trusted DIDs from addresses that are not public, too."""
    method: Text | None = None
    """Method for questions to agents of others that offer several. null: `ask`."""
