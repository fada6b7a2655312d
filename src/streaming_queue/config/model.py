"""The model that answers: behind an OpenAI-compatible API, or the mock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, SecretStr, Tag, model_validator

from streaming_queue.config.section import AtLeastOne, Integer, NotBoolean, NotNegative, Positive, Section, Text, Url


class Core(Section):
    """The model that answers."""

    type: Literal["mock", "openai"] | None = None
    """Model backend: mock, or openai for any OpenAI-compatible API. null: openai if a model is named."""
    name: Text | None = None
    """The model's name, as its provider calls it."""
    temperature: NotNegative | None = None
    """Sampling temperature; null: the provider's."""
    max_tokens: AtLeastOne | None = None
    """Longest answer, in tokens; null: the provider's."""
    base_url: Url | None = None
    """Address of a local OpenAI-compatible server; port completes it."""
    port: Annotated[int, Field(ge=1, le=65535), NotBoolean] | None = None
    """Port of the local server: http://127.0.0.1:PORT/v1, or the host of base_url."""
    openai_api_key: SecretStr | None = None
    """API key; better given as OPENAI_API_KEY. Never shown."""
    openai_base_url: Url | None = None
    """API address; null: the provider's. Also OPENAI_BASE_URL."""
    timeout_s: Positive = 300.0
    """Longest wait for the model, in seconds."""

    @model_validator(mode="before")
    @classmethod
    def _local_is_openai(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and given.get("type") == "local":
            if given.get("base_url") is None and given.get("port") is None:
                raise ValueError("core.type local needs core.base_url or core.port, the address of the model")
            return {**given, "type": "openai"}
        return given

    @model_validator(mode="after")
    def _one_port(self) -> Self:
        port = urlsplit(self.base_url or "").port
        if port and self.port not in {None, port}:
            raise ValueError(f"core.base_url has port {port}, core.port is {self.port}; give one of them")
        return self

    @property
    def is_local(self) -> bool:
        """Whether `base_url` or `port` name the server to ask."""
        return self.base_url is not None or self.port is not None

    @property
    def api_base(self) -> str | None:
        """The OpenAI-compatible base URL to ask, None for the provider's own.

        `base_url` and `port` make `http://host:port/v1` (a path in `base_url` is kept) and take precedence
        over `openai_base_url`.
        """
        if not self.is_local:
            return self.openai_base_url
        parts = urlsplit(self.base_url or "http://127.0.0.1")
        netloc = parts.netloc if parts.port or not self.port else f"{parts.netloc.rstrip(':')}:{self.port}"
        return f"{parts.scheme}://{netloc}{parts.path.rstrip('/') or '/v1'}"


class Latency(Section):
    """A log-normal time: `mean` of the distribution itself, in ms, and `sigma` of its logarithm."""

    mean: NotNegative = 50.0
    """Mean of the distribution itself, in milliseconds."""
    sigma: NotNegative = 0.0
    """Standard deviation of the logarithm; 0: always the mean."""


def _latency_kind(value: Any) -> str:
    return "spread" if isinstance(value, Mapping | Latency) else "constant"


class Mock(Section):
    """The mock: made-up answers without a model."""

    seed: Integer = 0
    """Random seed: the same seed gives the same answers, latencies and failures."""
    latency_ms: Annotated[
        Annotated[NotNegative, Tag("constant")] | Annotated[Latency, Tag("spread")], Discriminator(_latency_kind)
    ] = 50.0
    """Time to answer, in milliseconds: a number, or mean and sigma of a log-normal."""
    failure_rate: Annotated[float, Field(ge=0, le=1), NotBoolean] = 0.0
    """Share of questions that fail, from 0 to 1."""
