"""The document by which both ends know each other: its text is its name, so nothing in it may change."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
import yaml

from streaming_queue.errors import ProtocolError
from streaming_queue.protocol_backend.agora import document, routine
from streaming_queue.protocol_backend.agora.document import QUESTION_ANSWER, data_uri, hash_of, names_of, read_data_uri

FILE = Path(document.__file__).with_name("question_answer.txt")


def test_the_hash_is_pinned():
    # Whoever changes the document makes another one: agents with the old one do not know it.
    assert document.HASH == "HZIxeEeEKcuCLdqQzbEd044g8Kk="
    assert base64.b64encode(hashlib.sha1(FILE.read_bytes(), usedforsecurity=False).digest()).decode() == document.HASH
    assert base64.b64encode(bytes.fromhex(document.HEX_HASH)).decode() == document.HASH


def test_nothing_around_it_would_be_lost_where_texts_are_trimmed():
    assert QUESTION_ANSWER.strip() == QUESTION_ANSWER


def test_it_begins_with_what_agora_wants_to_know():
    _, front, text = QUESTION_ANSWER.split("---\n", 2)
    assert yaml.safe_load(front).keys() == {"name", "description", "multiround"}
    assert yaml.safe_load(front)["multiround"] is False
    assert text.startswith("\n# Question and answer\n")


def test_its_examples_are_what_the_routine_reads_and_writes():
    question, cancel, answer, failure, cancelled = re.findall(r"^    (\{.*\})$", QUESTION_ANSWER, re.MULTILINE)
    assert routine.read_request(question) == {
        "text": "What is the capital of France?",
        "metadata": {"idempotency_key": "run-1/q-7"},
    }
    assert routine.read_request(cancel) == {"cancel": "run-1/q-7"}
    for text in (answer, failure):
        assert routine.read_reply(text, "w") == json.loads(text)
    assert json.loads(routine.write_cancelled(True)) == json.loads(cancelled)


@pytest.mark.parametrize("text", [QUESTION_ANSWER, "", "a,b;c % é 字\n---\n"])
def test_a_document_comes_back_from_its_uri(text: str):
    assert read_data_uri(data_uri(text)) == text
    assert read_data_uri("data:text/plain;charset=utf-8;base64," + base64.b64encode(text.encode()).decode()) == text


@pytest.mark.parametrize(
    "source",
    [
        "data:text/plain",
        "data:;base64,?",
        "data:;base64,YQ",
        "data:,%ff",
        "data:," + "x" * 65_537,
        "data:," + "%78" * 70_000,
        "data:;base64," + "AAAA" * 30_000,
    ],
    ids=range(7),
)
def test_what_is_no_document(source: str):
    with pytest.raises(ProtocolError) as caught:
        read_data_uri(source)
    assert caught.value.retryable is False


def test_a_document_may_be_called_by_either_name():
    assert names_of("x") == (hash_of("x"), "11f6ad8ec52a2984abaafd7c3b516503785c2072")
