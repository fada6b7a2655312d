"""The official client reads what is built here: answers, streams, refusals. Nothing leaves the process."""

from __future__ import annotations

import json
from collections.abc import Iterable

import httpx
import openai
import pytest

from streaming_queue.errors import QueueFullError
from streaming_queue.messages import Failure, Result
from streaming_queue.service.openai import chat, response_objects, responses
from streaming_queue.service.openai.refusals import ServiceError, envelope, no_answer, refusal

RESULT = Result("42", "w", "p", 1.0, usage={"prompt_tokens": 1, "completion_tokens": 2})
MESSAGES = [{"role": "user", "content": "6*7?"}]


def served(request: httpx.Request) -> httpx.Response:
    """The answer to a request. The questions `dead` and `full` fail, `dead!` in the middle of its answer."""
    document = json.loads(request.content)
    try:
        asked = (chat if request.url.path == chat.ENDPOINT else responses).read(document)
        if asked.text in ("dead", "full"):
            raise fault(asked.text)
    except (ServiceError, QueueFullError) as error:
        told = refusal(error)
        return httpx.Response(told.status, headers=dict(told.headers), json=told.document)
    if asked.stream:
        parts = chat_stream(asked) if asked.endpoint == chat.ENDPOINT else response_stream(asked)
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=b"".join(parts))
    if asked.endpoint == chat.ENDPOINT:
        return httpx.Response(200, json=chat.completion(asked, RESULT, id="chatcmpl-1", created=1))
    return httpx.Response(200, json=response_objects.response(asked, RESULT, id="resp_1", created=1, completed=2))


def fault(text: str) -> ServiceError | QueueFullError:
    return (
        no_answer(Failure("RemoteError", "why")) if text.startswith("dead") else QueueFullError("full", retry_after_s=0)
    )


def chat_stream(asked: chat.Asked) -> Iterable[bytes]:
    chunks = chat.Chunks(asked, "chatcmpl-1", 1)
    yield from map(chat.event, [chunks.opening(), chunks.delta("4")])
    if asked.text == "dead!":
        yield chat.event(envelope(fault(asked.text)))
        return
    yield from map(chat.event, [chunks.delta("2"), *chunks.closing(RESULT)])
    yield chat.DONE


def response_stream(asked: chat.Asked) -> Iterable[bytes]:
    events = response_objects.Events(asked, "resp_1", 1)
    yield from map(response_objects.event, [*events.opening(), events.delta("4")])
    if asked.text == "dead!":
        yield response_objects.event(events.failed(fault(asked.text)))
        return
    yield from map(response_objects.event, [events.delta("2"), *events.closing(RESULT, 2)])


@pytest.fixture
def sent() -> list[httpx.Request]:
    return []


@pytest.fixture
def client(sent: list[httpx.Request]) -> Iterable[openai.OpenAI]:
    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return served(request)

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        yield openai.OpenAI(api_key="k", base_url="http://test/v1", http_client=http, max_retries=1)


def test_a_completion(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(model="m", messages=MESSAGES, temperature=1)
    assert (found.choices[0].message.content, found.usage.total_tokens) == ("42", 3)
    again = [*MESSAGES, found.choices[0].message, *MESSAGES]
    assert client.chat.completions.create(model="m", messages=again).choices[0].message.content == "42"


def test_a_streamed_completion(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model="m", messages=MESSAGES, stream_options={"include_usage": True}) as stream:
        found = stream.get_final_completion()
    assert (found.choices[0].message.content, found.choices[0].finish_reason, found.usage.total_tokens) == (
        "42",
        "stop",
        3,
    )


def test_a_response(client: openai.OpenAI) -> None:
    found = client.responses.create(model="m", input="6*7?", instructions="Be short.")
    assert (found.output_text, found.usage.total_tokens) == ("42", 3)
    again = [*MESSAGES, *found.output, *MESSAGES]
    assert client.responses.create(model="m", input=again).output_text == "42"


def test_a_streamed_response(client: openai.OpenAI) -> None:
    with client.responses.stream(model="m", input="6*7?") as stream:
        assert stream.get_final_response().output_text == "42"


def test_a_refused_parameter(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="m", messages=MESSAGES, seed=1)
    assert (refused.value.param, refused.value.code, refused.value.type) == (
        "seed",
        "unsupported_parameter",
        "invalid_request_error",
    )


def test_only_a_refusal_that_can_pass_is_repeated(client: openai.OpenAI, sent: list[httpx.Request]) -> None:
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "dead"}])
    assert (failed.value.status_code, failed.value.code) == (502, "remote")
    assert len(sent) == 1
    with pytest.raises(openai.RateLimitError):
        client.responses.create(model="m", input="full")
    assert len(sent) == 3


def test_a_stream_that_fails(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIError, match="why"):
        list(client.chat.completions.create(model="m", messages=[{"role": "user", "content": "dead!"}], stream=True))
    last = list(client.responses.create(model="m", input="dead!", stream=True))[-1]
    assert last.type == "response.failed"
    assert "why" in last.response.error.message
