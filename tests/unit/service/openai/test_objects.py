from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Batch as OfficialBatch
from openai.types import BatchCreateParams, FileDeleted, FileObject, Model
from unit.service.openai.shapes import JSON, TEXTS, nested, shaped

from streaming_queue.service.openai import objects
from streaming_queue.service.openai.objects import Batch, BatchRequest, BatchStatus, File
from streaming_queue.service.openai.refusals import InvalidRequestError
from streaming_queue.service.openai.usage import Tokens

REQUEST = BatchRequest("file-1", "/v1/responses", {"a": "b"})
TIMES = [name for name in OfficialBatch.model_fields if name.endswith("_at")]
BODY = {"completion_window": "24h", "endpoint": "/v1/responses", "input_file_id": "file-1", "metadata": {"a": "b"}}


@pytest.mark.parametrize("expires_at", [None, 99.9])
@pytest.mark.parametrize("purpose", get_args(objects.Purpose))
def test_a_file(purpose: objects.Purpose, expires_at: float | None) -> None:
    document = File(
        id="file-1", size=5, created_at=1.9, filename="ü.jsonl", purpose=purpose, expires_at=expires_at
    ).document()
    found = shaped(FileObject, document)
    assert (found.bytes, found.created_at, found.purpose) == (5, 1, purpose)
    assert found.expires_at == (99 if expires_at else None)


def test_a_deleted_file() -> None:
    assert shaped(FileDeleted, objects.deleted_file("file-1")).deleted


@pytest.mark.parametrize("status", get_args(BatchStatus))
def test_a_batch_in_each_status(status: BatchStatus) -> None:
    found = shaped(OfficialBatch, Batch(id="batch_1", request=REQUEST, status=status, created_at=1.9).document())
    assert (found.status, found.completion_window, found.endpoint) == (status, "24h", "/v1/responses")
    assert (found.created_at, found.metadata, found.errors, found.usage) == (1, {"a": "b"}, None, None)
    assert found.request_counts
    assert found.request_counts.total == 0


def test_the_statuses_are_the_official_ones() -> None:
    assert get_args(BatchStatus) == get_args(OfficialBatch.model_fields["status"].annotation)


def test_every_time_and_count_stands_in_a_batch() -> None:
    times = {name: 10.5 + place for place, name in enumerate(TIMES)}
    counts = {"total": 3, "completed": 2, "failed": 1}
    batch = Batch(
        id="batch_1", request=BatchRequest("file-1", "/v1/responses"), status="completed", **times, **counts,
        output_file_id="file-2", error_file_id="file-3", model="m", usage=Tokens(1, 2, 3),
        errors=[{"code": "x", "line": 1, "message": "y", "param": None}],
    )  # fmt: skip
    document = batch.document()
    found = shaped(OfficialBatch, document)
    assert {name: document[name] for name in TIMES} == {name: int(moment) for name, moment in times.items()}
    assert found.request_counts
    assert found.request_counts.model_dump() == counts
    assert (found.output_file_id, found.error_file_id, found.model, found.metadata) == ("file-2", "file-3", "m", None)
    assert found.errors
    assert found.errors.data
    assert found.errors.data[0].line == 1
    assert found.usage
    assert found.usage.total_tokens == 3


def test_a_batch_request() -> None:
    assert objects.read_batch_request(BODY) == REQUEST


def test_each_official_parameter_of_a_batch_has_a_treatment() -> None:
    assert all(objects.BATCH_PARAMETERS.treatment(name) for name in BatchCreateParams.__annotations__)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"completion_window": "1h"}, "completion_window"),
        ({"completion_window": None}, "completion_window"),
        ({"endpoint": "/v1/embeddings"}, "endpoint"),
        ({"input_file_id": ""}, "input_file_id"),
        ({"input_file_id": 1}, "input_file_id"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 3600}}, "output_expires_after"),
        ({"other": 1}, "other"),
        ({"metadata": nested(100_000)}, "metadata"),
    ],
)
def test_a_wrong_batch_request_is_refused_by_name(change: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        objects.read_batch_request(BODY | change)
    assert refused.value.param == param


@given(JSON | st.dictionaries(st.sampled_from([*BODY]) | TEXTS, JSON | st.sampled_from([*BODY.values()])))
def test_any_body_is_a_batch_request_or_a_typed_error(document: object) -> None:
    try:
        request = objects.read_batch_request(document)
    except InvalidRequestError as error:
        str(error).encode()
    else:
        shaped(OfficialBatch, Batch(id="batch_1", request=request, status="validating", created_at=1).document())


def test_models() -> None:
    listed = objects.model_list([objects.model("m", created=1.9), objects.model("n", created=2, owned_by="us")])
    found = [shaped(Model, each) for each in listed["data"]]
    assert [(each.id, each.created, each.owned_by) for each in found] == [("m", 1, "streaming-queue"), ("n", 2, "us")]
    assert listed["object"] == "list"


def test_a_page_names_its_ends() -> None:
    files = [File(id=f"file-{number}", size=0, created_at=1, filename="f").document() for number in range(3)]
    told = objects.page(files, has_more=True)
    assert (told["object"], told["first_id"], told["last_id"], told["has_more"]) == ("list", "file-0", "file-2", True)
    empty = objects.page([], has_more=False)
    assert (empty["data"], empty["first_id"], empty["last_id"], empty["has_more"]) == ([], None, None, False)
