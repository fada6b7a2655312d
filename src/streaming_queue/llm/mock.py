"""A provider without a model: made-up text, latency and failures, the same for the same seed and question."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncGenerator
from statistics import NormalDist
from typing import TYPE_CHECKING

from streaming_queue.errors import BadResponseError, ConfigError
from streaming_queue.llm.base import LLM, Chunk

if TYPE_CHECKING:
    from streaming_queue.config.model import Latency

MARK = "[mock] "
"""The beginning of every mock answer."""
WORDS_PER_CHUNK = 4
FIRST_CHUNK_SHARE = 0.3
"""The part of the latency before the first chunk."""

_VOCABULARY = (
    "amber answer basin bridge candle canvas circle cloud copper corner desert distance echo ember engine evening "
    "feather field figure forest garden glass granite harbour hollow horizon island ivory journey kettle ladder "
    "lantern letter library marble market meadow mirror morning mountain needle number ocean orchard paper pattern "
    "pebble pillar quarter quiet river saddle season shadow signal silver station stone summer thread tower valley "
    "velvet winter"
)
_WORDS = _VOCABULARY.split()
_STANDARD_NORMAL = NormalDist()
_TWO_52 = 2.0**52


class MockLLM(LLM):
    """Answers at once, or with the given latency and failures.

    The text depends only on the seed and the question's text. Latency and failure depend on the seed and the question's
    id, or its text if it has no id. So a question that fails fails at every attempt.
    """

    provider = "mock"
    is_mock = True

    def __init__(self, *, seed: int = 0, latency_ms: float | Latency = 0.0, failure_rate: float = 0.0) -> None:
        """`latency_ms` is the time until the whole answer; `failure_rate` is the share of question ids that fail.

        Raises:
            ConfigError: a value is out of its range.
        """
        super().__init__("mock")
        mean, sigma = (
            (float(latency_ms), 0.0) if isinstance(latency_ms, int | float) else (latency_ms.mean, latency_ms.sigma)
        )
        if not (0 <= mean < math.inf and 0 <= sigma < math.inf):
            raise ConfigError(f"mock.latency_ms must be finite and not negative, not mean {mean} and sigma {sigma}")
        if not 0 <= failure_rate <= 1:
            raise ConfigError(f"mock.failure_rate must be between 0 and 1, not {failure_rate}")
        self._key = hashlib.blake2b(str(seed).encode()).digest()
        self._mean_ms = mean
        self._sigma = sigma
        self._failure_rate = failure_rate

    async def stream(self, question: str, *, question_id: str | None = None) -> AsyncGenerator[Chunk, None]:
        """The answer: one chunk without latency, else chunks of a few words over the latency's time.

        Raises:
            BadResponseError: this question fails; raised after its latency.
        """
        name = question if question_id is None else question_id
        latency_s = self.latency_ms(name) / 1000 if self._mean_ms else 0.0
        if self._failure_rate and self._uniform("failure", name) < self._failure_rate:
            if latency_s:
                await asyncio.sleep(latency_s)
            raise BadResponseError(f"mock failure (mock.failure_rate is {self._failure_rate:g})")
        text = self.text(question)
        if not latency_s:
            yield Chunk(text)
            return
        pieces = _pieces(text)
        clock = asyncio.get_running_loop().time
        start = clock()
        for index, piece in enumerate(pieces):
            share = FIRST_CHUNK_SHARE + (1 - FIRST_CHUNK_SHARE) * index / max(1, len(pieces) - 1)
            await asyncio.sleep(max(0.0, start + latency_s * share - clock()))
            yield Chunk(piece)

    def text(self, question: str) -> str:
        """The answer to `question`, marked as a mock's; different questions have different answers."""
        digest = self._digest("text", question)
        words = " ".join([_WORDS[byte & 63] for byte in digest[6 : 14 + (digest[6] & 15)]])
        return f"{MARK}Made-up answer {digest[:6].hex()}: {words}."

    def latency_ms(self, name: str) -> float:
        """The latency of the question with this id, in milliseconds."""
        if not self._sigma or not self._mean_ms:
            return self._mean_ms
        location = math.log(self._mean_ms) - self._sigma**2 / 2
        return math.exp(location + self._sigma * _STANDARD_NORMAL.inv_cdf(self._uniform("latency", name)))

    def _uniform(self, purpose: str, name: str) -> float:
        """A number in (0, 1), the same for the same seed, purpose and name."""
        return ((int.from_bytes(self._digest(purpose, name)[:8], "big") >> 12) + 0.5) / _TWO_52

    def _digest(self, purpose: str, text: str) -> bytes:
        # A lone surrogate is no UTF-8, yet a question read from JSON may hold one.
        data = text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(data, digest_size=32, key=self._key, person=purpose.encode()).digest()


def _pieces(text: str) -> list[str]:
    words = text.split(" ")
    groups = [" ".join(words[at : at + WORDS_PER_CHUNK]) for at in range(0, len(words), WORDS_PER_CHUNK)]
    return [groups[0], *(f" {group}" for group in groups[1:])]
