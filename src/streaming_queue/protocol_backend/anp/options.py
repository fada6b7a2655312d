"""The configuration section of anp: its keys are keywords of the backend."""

from __future__ import annotations

from pydantic import Field

from streaming_queue.config.backends import BackendSection
from streaming_queue.config.section import PathText, Text


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
