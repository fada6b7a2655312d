"""The objects of OpenAI's API that are no answers: files, batches, models and lists. No I/O. Times are in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from streaming_queue.service.openai.conversation import Endpoint
from streaming_queue.service.openai.parameters import Metadata, Parameters, Strict, Text, an_object, refuse, validated
from streaming_queue.service.openai.refusals import InvalidRequestError
from streaming_queue.service.openai.usage import Tokens

COMPLETION_WINDOW: Final = "24h"
"""The only window that OpenAI's clients can state."""
BatchStatus = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
Purpose = Literal["batch", "batch_output"]
BATCH_PARAMETERS = Parameters(
    frozenset({"completion_window", "endpoint", "input_file_id", "metadata"}),
    refused=frozenset({"output_expires_after"}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file: `id` is `file-...`, `size` in bytes. A file with `expires_at` is deleted then."""

    id: str
    size: int
    created_at: float
    filename: str
    purpose: Purpose = "batch"
    expires_at: float | None = None

    def document(self) -> dict[str, Any]:
        """The file object. Its `status` is deprecated and required; a file that exists is `processed`."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.size,
            "created_at": int(self.created_at),
            "expires_at": _seconds(self.expires_at),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What `POST /v1/batches` asks for: all lines of the input file go to one endpoint."""

    input_file_id: str
    endpoint: Endpoint
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch: `id` is `batch_...`. A time is None until it has come, a file's id until the file exists.

    `errors` are the input lines that were refused (`batch_lines.LineError.detail`); they stand in a `failed` batch.
    `total`, `completed` and `failed` are numbers of lines.
    """

    id: str
    request: BatchRequest
    status: BatchStatus
    created_at: float
    expires_at: float | None = None
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: Sequence[Mapping[str, Any]] = ()
    model: str | None = None
    usage: Tokens | None = None

    def document(self) -> dict[str, Any]:
        """The batch object, with every time; `usage` and `model` stand in it only where they are known."""
        document: dict[str, Any] = {
            "id": self.id,
            "object": "batch",
            "endpoint": self.request.endpoint,
            "errors": {"object": "list", "data": [dict(each) for each in self.errors]} if self.errors else None,
            "input_file_id": self.request.input_file_id,
            "completion_window": COMPLETION_WINDOW,
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": int(self.created_at),
            "in_progress_at": _seconds(self.in_progress_at),
            "expires_at": _seconds(self.expires_at),
            "finalizing_at": _seconds(self.finalizing_at),
            "completed_at": _seconds(self.completed_at),
            "failed_at": _seconds(self.failed_at),
            "expired_at": _seconds(self.expired_at),
            "cancelling_at": _seconds(self.cancelling_at),
            "cancelled_at": _seconds(self.cancelled_at),
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": None if self.request.metadata is None else dict(self.request.metadata),
        }
        if self.model is not None:
            document["model"] = self.model
        if self.usage:
            document["usage"] = self.usage.as_batch()
        return document


class _BatchBody(Strict):
    completion_window: Text
    endpoint: Endpoint
    input_file_id: Annotated[Text, Field(min_length=1)]
    metadata: Metadata | None = None


def read_batch_request(body: object) -> BatchRequest:
    """What a body of `POST /v1/batches` asks for. Raises InvalidRequestError and nothing else."""
    document = an_object(body)
    refuse(BATCH_PARAMETERS.offending(document))
    request = validated(_BatchBody, document)
    if request.completion_window != COMPLETION_WINDOW:
        raise InvalidRequestError(
            f"completion_window must be {COMPLETION_WINDOW}", param="completion_window", reason="invalid_value"
        )
    return BatchRequest(request.input_file_id, request.endpoint, request.metadata)


def deleted_file(id: str) -> dict[str, Any]:  # noqa: A002 (OpenAI's word)
    """The answer to the deletion of a file."""
    return {"id": id, "object": "file", "deleted": True}


def model(id: str, *, created: float, owned_by: str = "streaming-queue") -> dict[str, Any]:  # noqa: A002
    """A model object; `id` is the name that callers state as `model`."""
    return {"id": id, "object": "model", "created": int(created), "owned_by": owned_by}


def model_list(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The list of models. It has no pages."""
    return {"object": "list", "data": [dict(each) for each in models]}


def page(items: Sequence[Mapping[str, Any]], *, has_more: bool) -> dict[str, Any]:
    """A page of files or batches; the next one is asked for with `after=<last_id>`."""
    return {
        "object": "list",
        "data": [dict(each) for each in items],
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": has_more,
    }


def _seconds(moment: float | None) -> int | None:
    return None if moment is None else int(moment)
