"""Checks of messages."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from streaming_queue.comm.answer_limit import MAX_ANSWER_BYTES
from streaming_queue.errors import ProtocolError
from streaming_queue.messages import MAX_QUESTION_BYTES
from streaming_queue.testing.executors import Agent, Recorder, message, pieces, whole
from streaming_queue.testing.expect import SLACK_S, expect, expect_equal, expect_error, within
from streaming_queue.testing.lab import WAYS, Lab
from streaming_queue.testing.relay import Relay
from streaming_queue.testing.verdict import holds

TEXTS: Mapping[str, str] = {
    "empty": "",
    "plain": "plain",
    "scripts": "\u4e2d\u6587\uff0c\u65e5\u672c\u8a9e\u3001\ud55c\uad6d\uc5b4, \u0639\u0631\u0628\u064a",
    "emoji": "\U0001f99c\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 e\u0301 \u00e9",
    "quotes": "\"quotes\" 'single' \\back\\ / %41 &amp; <b>",
    "controls": "\t\r\n \x00 \x1b[31m \u2028 \u202e end ",
    "500 kB": "x" * 500_000,
    "500 kB of three bytes each": "\u5b57" * 170_000,
}

LONGEST: Mapping[str, str] = {
    "plain": "x" * (MAX_QUESTION_BYTES - 2),
    "quotes": '"' * (MAX_QUESTION_BYTES // 2 - 1),
    "controls": "\x01" * (MAX_QUESTION_BYTES // 6 - 1),
}
"""Questions of `MAX_QUESTION_BYTES` as JSON."""

MEGABYTE = "m" * 1024 * 1024
TRANSFER_S = 15.0
HEALTHY_S = 1.0
MANY_VALUES = [0] * 20_000


class Sending:
    """Checks of messages."""

    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
    @holds("send-1")
    async def test_text_arrives_as_it_left(self, lab: Lab, text: str) -> None:
        if not lab.hosts:
            await lab.agent()
            expect_equal((await lab.send(text))["text"], text, "the answer")
            return
        recorder = Recorder()
        await lab.host(recorder)
        answer = (await lab.send(text))["text"]
        expect_equal(len(recorder.seen), 1, "runs of the agent:")
        expect_equal(recorder.seen[0], text, "the question at the agent")
        expect_equal(answer, text, "the answer")

    @holds("send-2")
    async def test_parts_arrive(self, lab: Lab) -> None:
        await lab.agent()
        parts = [{"kind": "text", "text": "one"}, {"kind": "text", "text": "\u4e8c"}]
        reply = await lab.backend.send("kit", "w", {"parts": parts})
        expect_equal(reply["text"], "one\n\u4e8c", "the answer")

    @holds("send-3")
    async def test_answers_are_never_swapped(self, lab: Lab) -> None:
        async def behave(context: Any, queue: Any) -> None:
            text = context.get_user_input()
            await asyncio.sleep(int(text[1:]) * 7 % 10 / 1000)
            await queue.enqueue_event(message(f"{context.agent_id}:{text}"))

        if lab.hosts:
            for agent_id in ("a", "b"):
                await lab.host(Agent(behave), agent_id)
        else:
            await lab.agent()
        asked = [("ab"[number % 2] if lab.hosts else "w", f"q{number}") for number in range(100)]
        replies = await asyncio.gather(*(lab.send(text, agent_id) for agent_id, text in asked))
        for (agent_id, text), reply in zip(asked, replies, strict=True):
            expect_equal(reply["text"], f"{agent_id}:{text}" if lab.hosts else text, f"the answer to {text!r}:")

    @holds("send-4")
    async def test_a_reply_has_its_shape(self, lab: Lab) -> None:
        await lab.agent()
        reply = await lab.send()
        expect(isinstance(reply, Mapping), 'a mapping with "raw" and "text"', reply)
        expect("raw" in reply and isinstance(reply.get("text"), str), '"raw", and a text as "text"', dict(reply))
        metadata = reply.get("metadata", {})
        expect(isinstance(metadata, Mapping), 'a mapping as "metadata", or none', metadata)

    @holds("send-5")
    async def test_an_agent_knows_that_its_caller_reads_no_pieces(self, lab: Lab) -> None:
        await lab.host(Agent(lambda context, queue: queue.enqueue_event(message(str(context.streaming)))))
        expect_equal((await lab.send())["text"], "False", "`streaming` at the agent:")

    @pytest.mark.parametrize("in_pieces", [True, False], ids=["in pieces", "whole"])
    @holds("send-6")
    async def test_an_answer_has_a_limit(self, lab: Lab, in_pieces: bool) -> None:
        count = MAX_ANSWER_BYTES // len(MEGABYTE) + 1
        await lab.host(Agent(pieces([MEGABYTE] * count) if in_pieces else whole(MEGABYTE * count)))
        for way in WAYS:
            await expect_error(lab.ask(way), ProtocolError, within_s=TRANSFER_S)

    @holds("send-7")
    async def test_a_message_of_too_many_values_is_refused(self, lab: Lab) -> None:
        recorder = Recorder()
        agent = await lab.host(recorder)
        if Relay.to(agent.address) is None:
            pytest.skip(f"no wire: {agent.address} gets no message from another process")
        error = await expect_error(lab.send(values=MANY_VALUES), ProtocolError, within_s=TRANSFER_S)
        expect(not error.retryable, "an error that is not retryable", error)
        healthy = await within(HEALTHY_S + SLACK_S, lab.backend.health_check(agent.agent_id), "a sign of health")
        expect_equal(healthy, True, "the probe")
        expect_equal(recorder.seen, [], "questions at the agent:")

    @pytest.mark.parametrize("text", LONGEST.values(), ids=LONGEST)
    @holds("send-8")
    async def test_the_longest_question_arrives(self, lab: Lab, text: str) -> None:
        await lab.host(
            Agent(lambda context, queue: queue.enqueue_event(message(str(context.get_user_input() == text))))
        )
        answer = (await within(TRANSFER_S, lab.send(text), "an answer"))["text"]
        expect_equal(answer, "True", "the question is whole:")
