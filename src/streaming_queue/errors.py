"""Every error the project raises, and the one form in which an error crosses a wire.

```
StreamingQueueError
├─ ConfigError(ValueError)
│  ├─ UnknownProtocolError
│  └─ BackendNotInstalledError(ImportError)
├─ TopologyError
│  ├─ UnknownAgentError(LookupError)
│  └─ UnreachableError(PermissionError)
├─ CommError
│  ├─ ConnectError
│  │  └─ UnavailableError
│  ├─ SendTimeoutError(TimeoutError)
│  ├─ AuthError
│  ├─ RemoteError
│  │  └─ AgentFailedError
│  ├─ ProtocolError
│  └─ BackendClosedError
├─ QueueError
│  ├─ LeaseLostError
│  ├─ QueueFullError
│  │  └─ DiskFullError
│  ├─ QueueInUseError
│  ├─ QueueStalledError
│  ├─ QueueClosedError
│  ├─ RunClosedError
│  ├─ RunCancelledError
│  └─ UnknownRunError
└─ LLMError
   ├─ LLMTimeoutError
   ├─ RateLimitedError
   ├─ QuotaError
   └─ BadResponseError
```

The code that sees a fault raises the error, the code that knows its meaning decides: a backend raises, the coordinator
retries, requeues or gives up by class and `retryable`, the command line picks the exit code. No code reads the text of
a message.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NotRequired, TypedDict

from streaming_queue.masking import masked

MAX_WISH_S = 1e9
"""The longest time to wait that is taken for one, in seconds: thirty years."""


class StreamingQueueError(Exception):
    """Root of the tree.

    `code` names the class on the wire. `retryable` says whether another try, perhaps elsewhere, can help.
    `retry_after_s` is the peer's own wish in seconds, None where it stated none. The message is kept without the
    credentials of addresses in it (`masking.masked`): it goes to logs, rows and other processes.
    """

    code: ClassVar[str] = "internal"
    retryable: bool = False

    def __init__(self, message: str = "", *, retryable: bool | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(masked(str(message)))
        if retryable is not None:
            self.retryable = retryable
        self.retry_after_s = retry_after_s


class ConfigError(StreamingQueueError, ValueError):
    """A setting, an argument or an input file is wrong; the text names it and the remedy."""

    code = "config"


class UnknownProtocolError(ConfigError):
    """No backend goes by this name."""

    code = "unknown_protocol"


class BackendNotInstalledError(ConfigError, ImportError):
    """The backend is known, its library is missing; the text says what to install."""

    code = "backend_not_installed"


class TopologyError(StreamingQueueError):
    """The logical network does not allow this."""

    code = "topology"


class UnknownAgentError(TopologyError, LookupError):
    """No agent is registered under this id."""

    code = "unknown_agent"


class UnreachableError(TopologyError, PermissionError):
    """Both agents exist, but no edge leads from one to the other."""

    code = "unreachable"


class CommError(StreamingQueueError):
    """An exchange with a peer failed."""

    code = "comm"


class ConnectError(CommError):
    """The peer could not be reached, or the connection broke before the answer."""

    code = "connect"
    retryable = True


class UnavailableError(ConnectError):
    """The message did not reach the agent, or the agent did not begin to work on it: asking again is safe."""

    code = "unavailable"


class SendTimeoutError(CommError, TimeoutError):
    """The peer stayed silent past the deadline."""

    code = "timeout"
    retryable = True


class AuthError(CommError):
    """The peer refused our identity or rights."""

    code = "auth"


class RemoteError(CommError):
    """The peer answered with a failure of its own."""

    code = "remote"
    retryable = True


class AgentFailedError(RemoteError):
    """The agent behind the peer failed on this message."""

    code = "agent_failed"


class ProtocolError(CommError):
    """What came back is not what the protocol allows: garbage, an empty answer, an answer too large."""

    code = "protocol"
    retryable = True


class BackendClosedError(CommError):
    """The backend was closed."""

    code = "backend_closed"


class QueueError(StreamingQueueError):
    """The queue could not do what was asked."""

    code = "queue"


class LeaseLostError(QueueError):
    """The lease was given to another or is settled; its holder may no longer decide."""

    code = "lease_lost"


class QueueFullError(QueueError):
    """The queue holds as many open questions as it may."""

    code = "queue_full"
    retryable = True


class DiskFullError(QueueFullError):
    """The disk has no space for what was asked; nothing of it was stored."""

    code = "disk_full"


class QueueInUseError(QueueError):
    """Another process owns the queue; the text names its pid."""

    code = "queue_in_use"


class QueueStalledError(QueueError):
    """The disk did not answer for so long that the queue gave up; acknowledged changes are kept."""

    code = "queue_stalled"


class QueueClosedError(QueueError):
    """The queue was closed."""

    code = "queue_closed"


class RunClosedError(QueueError):
    """The run is sealed or cancelled: it takes no questions, or a cancelled one no replay."""

    code = "run_closed"


class RunCancelledError(QueueError):
    """The end of a question that was open when its run was cancelled."""

    code = "run_cancelled"


class UnknownRunError(QueueError):
    """The queue has no run of this name."""

    code = "unknown_run"


class LLMError(StreamingQueueError):
    """The model's provider failed."""

    code = "llm"
    retryable = True


class LLMTimeoutError(LLMError):
    """The provider stayed silent past its limit."""

    code = "llm_timeout"


class RateLimitedError(LLMError):
    """The provider asks to slow down; `retry_after_s` where it said for how long."""

    code = "rate_limited"


class QuotaError(LLMError):
    """The account is out of quota or credit: waiting does not help, topping up does."""

    code = "quota"
    retryable = False


class BadResponseError(LLMError):
    """The provider's response cannot be used."""

    code = "bad_response"


def typed(error: Exception, where: str) -> StreamingQueueError:
    """The error itself where it is ours, else the one for what a library raised; `where` is put before its text."""
    if isinstance(error, StreamingQueueError):
        return error
    text = f"{where}: {type(error).__name__}: {error}"
    if isinstance(error, TimeoutError):
        failure: CommError = SendTimeoutError(text)
    elif isinstance(error, OSError | EOFError):
        failure = ConnectError(text)
    else:
        failure = CommError(text, retryable=True)
    failure.__cause__ = error
    return failure


_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


def disk_error(path: object, error: OSError) -> QueueError | None:
    """The error for a disk that is full or failed while `path` was in use; None for another reason."""
    if error.errno in _NO_SPACE:
        failure: QueueError = DiskFullError(
            f"{path} cannot be written: {error.strerror}; free some space, then `stq resume` goes on: no answer is lost"
        )
    elif error.errno == errno.EIO:
        failure = QueueError(f"{path}: the disk failed ({error.strerror}); check it, acknowledged changes are kept")
    else:
        return None
    failure.__cause__ = error
    return failure


def os_reason(error: OSError) -> str:
    """Why the system refused, without addresses, so that equal reasons read equal: `connection refused`."""
    number = error.errno or 0  # that of a name that is not found is below zero
    return os.strerror(number).lower() if number > 0 else str(error) or type(error).__name__


def _by_code(cls: type[StreamingQueueError]) -> dict[str, type[StreamingQueueError]]:
    table = {cls.code: cls}
    for child in cls.__subclasses__():
        table |= _by_code(child)
    return table


ERRORS_BY_CODE: Mapping[str, type[StreamingQueueError]] = _by_code(StreamingQueueError)
"""Wire code -> class, for every class above."""


class FailureEvent(TypedDict):
    """The event with which an answer fails. It ends the stream; `code` names the error's class.

    `retry_after_s` is in seconds. `NetworkBase.stream_message` adds the `error` itself; no wire carries it.
    """

    type: Literal["agent_error"]
    code: str
    message: str
    retryable: bool
    retry_after_s: float | None
    error: NotRequired[StreamingQueueError]


def error_event(error: BaseException) -> FailureEvent:
    """The event that a host sends for a failure.

    An exception that is not ours becomes `agent_failed` and keeps its text to itself: it may hold secrets.
    """
    if not isinstance(error, StreamingQueueError):
        error = AgentFailedError(f"the agent failed on this message ({type(error).__name__}); its log has the reason")
    return {
        "type": "agent_error",
        "code": error.code,
        "message": str(error),
        "retryable": bool(error.retryable),
        "retry_after_s": _seconds(error.retry_after_s),
    }


def whole_error_event(event: Mapping[str, Any]) -> FailureEvent:
    """An `agent_error` event as `error_event` writes it, of one that lacks members or has odd ones."""
    return error_event(error_from_event(event))


def error_from_event(event: Mapping[str, Any], origin: str = "") -> StreamingQueueError:
    """The error that `error_event` described, as the same class; an unknown code is a `RemoteError`.

    A member of a wrong type counts as left out: a peer may send anything.
    `origin` (an address or agent id) is put before the message, so that a reader knows where it happened.
    """
    cls = ERRORS_BY_CODE.get(str(event.get("code")), RemoteError)
    message = str(event.get("message") or "the agent reported a failure without a message")
    retryable = event.get("retryable")
    return cls(
        f"{origin}: {message}" if origin else message,
        retryable=retryable if isinstance(retryable, bool) else None,
        retry_after_s=_seconds(event.get("retry_after_s")),
    )


def _seconds(wish: Any) -> float | None:
    """A time to wait; None where it is none: no number, NaN, negative, or beyond all waiting."""
    if not isinstance(wish, int | float) or isinstance(wish, bool):
        return None
    return float(wish) if 0 <= wish <= MAX_WISH_S else None
