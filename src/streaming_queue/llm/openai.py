"""Servers with OpenAI's chat completions, through the official SDK."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from streaming_queue.errors import BackendNotInstalledError, BadResponseError, ConfigError, LLMError, LLMTimeoutError
from streaming_queue.extras import install_command
from streaming_queue.llm.base import LLM, Chunk, KeyState, ModelListing
from streaming_queue.llm.openai_stream import ChunkReader

if TYPE_CHECKING:
    import openai
    from openai.types.chat import ChatCompletionChunk

    from streaming_queue.llm.openai_errors import Translator

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "gpt-6-luna"
"""OpenAI's model for simple questions in large numbers; only for OpenAI's own address."""
OPENAI_HOST = "api.openai.com"
"""OpenAI's own host; its regional hosts have the same ending."""
DEFAULT_BASE_URL = f"https://{OPENAI_HOST}/v1"
PLACEHOLDER_KEY = "not-needed"
"""Sent to the user's own server without a key: the SDK requires a key, and such servers ignore it."""
CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class _Dialect:
    """The server's variant of requests: the name of the token limit, and whether requests may ask for usage."""

    limit: str
    usage: bool = True


class OpenAILLM(LLM):
    """Streamed chat completions of OpenAI's own API or a compatible one.

    There are no retries here. The first use imports the SDK. If no model is named, it also asks the server for one, so
    `model` may be empty until the first answer.
    """

    provider = "openai"

    def __init__(
        self,
        model: str | None = None,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        temperature: float | None = None,
        max_tokens: int | None = None,
        timeout_s: float = 300.0,
    ) -> None:
        """`base_url` None is OpenAI's own; `timeout_s` bounds the time to each piece of text, not the whole answer.

        The default of `model` is `DEFAULT_MODEL` at OpenAI's own address, and the first listed model at others.

        Raises:
            BackendNotInstalledError: the SDK is not installed.
            ConfigError: OpenAI's own address needs a key, or the key or base URL is invalid.
        """
        if find_spec("openai") is None:
            raise BackendNotInstalledError(f"core.type openai needs the OpenAI SDK: {install_command('openai')}")
        if api_key and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
            raise ConfigError(
                "the API key (core.openai_api_key, OPENAI_API_KEY) has blanks or characters that no key has"
            )
        self._base_url = base_url or DEFAULT_BASE_URL
        parts = urlsplit(self._base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("the base URL of the model (core.openai_base_url) must look like http://host:port/v1")
        self.origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
        """The server's address, without credentials."""
        self._is_openai = f".{parts.hostname}".endswith(f".{OPENAI_HOST}")
        if self._is_openai and not api_key:
            raise ConfigError(
                "core.type openai has no key: set OPENAI_API_KEY, or core.openai_base_url (OPENAI_BASE_URL) for a "
                "server of your own, or core.type mock"
            )
        super().__init__(model or (DEFAULT_MODEL if self._is_openai else ""))
        self._api_key = api_key
        self._temperature = temperature
        self._max_tokens = max_tokens
        self._timeout_s = timeout_s
        self._dialect = _Dialect("max_completion_tokens" if self._is_openai else "max_tokens")
        self._usage_accepted = False
        self._opening = asyncio.Lock()
        self._client: tuple[openai.AsyncOpenAI, Translator] | None = None

    async def stream(self, question: str, *, question_id: str | None = None) -> AsyncGenerator[Chunk, None]:
        """The answer as the server sends it; usage and truncation, if any, come last, with an empty text.

        Raises:
            AuthError: the server refused the key (401, 403).
            RateLimitedError: the server limits the rate (429).
            QuotaError: the account is out of quota (402, or 429 that says so).
            LLMTimeoutError: the server was silent for `timeout_s` (or answered 408, 504).
            BadResponseError: the stream is empty, malformed or cut off, or has no text.
            ConfigError: no model is named and the server lists none.
            LLMError: another failure; retryable for lost connections and 5xx, not for refusals (400, 404, 422).
        """
        del question_id
        client, translator = await self._open()
        import openai

        reader = ChunkReader()
        try:
            model = self.model or await self._first_model(client)
            async with await self._request(client, model, question) as completion:
                async for text in self._texts(completion, reader):
                    yield Chunk(text)
            reader.finish(completion.response.headers.get("content-type", "no content type"), self._max_tokens)
        except openai.OpenAIError as error:
            # The SDK's error holds the request with its key, and the server's words unchanged.
            raise translator.translate(error) from None
        except BadResponseError as error:
            reason = translator.redact(str(error))
            raise BadResponseError(f"{self.origin}: {reason}", retryable=error.retryable) from None
        except ConfigError:
            raise
        except UnicodeEncodeError as error:
            raise LLMError(f"the question cannot be sent: {error.reason}", retryable=False) from None
        except ValueError as error:
            reason = translator.redact(str(error))
            raise BadResponseError(f"{self.origin}: the stream is malformed: {reason}") from None
        if reader.usage or reader.truncated:
            yield Chunk("", reader.usage, reader.truncated)

    async def _texts(
        self, completion: openai.AsyncStream[ChatCompletionChunk], reader: ChunkReader
    ) -> AsyncGenerator[str, None]:
        """The texts of the chunks. The server has `timeout_s` for each; a comment or an empty chunk is none."""
        chunks, loop = aiter(completion), asyncio.get_running_loop()
        until = loop.time() + self._timeout_s
        while True:
            try:
                async with asyncio.timeout_at(until):
                    text = reader.text(await anext(chunks))
            except StopAsyncIteration:
                return
            except TimeoutError:
                raise LLMTimeoutError(
                    f"{self.origin}: no text for so long (core.timeout_s is {self._timeout_s:g})"
                ) from None
            if text:
                yield text
                until = loop.time() + self._timeout_s

    async def listing(self, within_s: float) -> ModelListing:
        """See LLM. A server that lists its models without our key too has not checked the key."""
        client, translator = await self._open()
        import openai

        try:
            async with asyncio.timeout(within_s):
                models = await _list_models(client)
                if self._api_key is None:
                    return ModelListing(models, KeyState.NOT_SENT)
                if not models:
                    return ModelListing(models, KeyState.NOT_CHECKED)
                if self._is_openai:
                    return ModelListing(models, KeyState.ACCEPTED)
                try:
                    await _list_models(client.with_options(api_key=PLACEHOLDER_KEY))
                except openai.APIStatusError as error:
                    refused = error.status_code < 500 and error.status_code != 429
                    return ModelListing(models, KeyState.ACCEPTED if refused else KeyState.NOT_CHECKED)
                return ModelListing(models, KeyState.NOT_CHECKED)
        except openai.APIError as error:
            error.body = None
            raise translator.translate(error) from None
        except TimeoutError:
            raise LLMTimeoutError(f"{self.origin}: no list of models within {within_s:g} s") from None

    async def close(self) -> None:
        """Close the connections; idempotent."""
        client, self._client = self._client, None
        if client is not None:
            await client[0].close()

    async def _open(self) -> tuple[openai.AsyncOpenAI, Translator]:
        if self._client is None:
            async with self._opening:
                if self._client is None:
                    # The import of the SDK and of the certificates reads files for a second.
                    self._client = await asyncio.to_thread(self._connect)
        return self._client

    def _connect(self) -> tuple[openai.AsyncOpenAI, Translator]:
        import openai

        from streaming_queue.llm.openai_errors import Translator

        timeout = openai.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s))
        client = openai.AsyncOpenAI(
            api_key=self._api_key or PLACEHOLDER_KEY,
            base_url=self._base_url,
            max_retries=0,  # the scheduler retries, first with another worker, within its budget
            timeout=timeout,
            http_client=openai.DefaultAsyncHttpxClient(timeout=timeout, follow_redirects=False),
        )
        return client, Translator(self.origin, self._timeout_s, self._api_key)

    async def _first_model(self, client: openai.AsyncOpenAI) -> str:
        """The first model that the server lists; stored in `model`."""
        async with self._opening:
            if self.model:
                return self.model
            names = await _list_models(client)
            if not names:
                raise ConfigError(f"{self.origin} lists no models: name one in core.name (--model)")
            self.model = names[0]
            logger.info("%s lists %d models; the first answers: %s", self.origin, len(names), self.model)
            return self.model

    async def _request(
        self, client: openai.AsyncOpenAI, model: str, question: str
    ) -> openai.AsyncStream[ChatCompletionChunk]:
        """Send the request in the server's dialect; after a refusal of the dialect, try the other one."""
        import openai

        dialect, tried = self._dialect, set[_Dialect]()
        while True:
            tried.add(dialect)
            options: dict[str, Any] = {"stream_options": {"include_usage": True}} if dialect.usage else {}
            if self._temperature is not None:
                options["temperature"] = self._temperature
            if self._max_tokens is not None:
                options[dialect.limit] = self._max_tokens
            try:
                completion: openai.AsyncStream[ChatCompletionChunk] = await client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": question}], stream=True, **options
                )
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                other = self._other_dialect(dialect, error.param)
                if other is None or other in tried:
                    raise
                dialect = other
            else:
                self._dialect = dialect
                self._usage_accepted = self._usage_accepted or dialect.usage
                return completion

    def _other_dialect(self, dialect: _Dialect, param: str | None) -> _Dialect | None:
        """The dialect to try after a refusal that names `param`; None: the request itself is at fault.

        Many compatible servers name no parameter. Until such a server accepts a request with stream_options, they are
        the suspected cause; a second refusal without them then gives the true reason.
        """
        if self._max_tokens is not None and param == dialect.limit:
            return replace(dialect, limit="max_tokens" if param == "max_completion_tokens" else "max_completion_tokens")
        if not dialect.usage:
            return None
        named = isinstance(param, str) and param.startswith("stream_options")
        suspected = param is None and not self._is_openai and not self._usage_accepted
        return replace(dialect, usage=False) if named or suspected else None


async def _list_models(client: openai.AsyncOpenAI) -> tuple[str, ...]:
    """The ids from GET /models, without the SDK's own type, which other servers do not always match."""
    import openai

    try:
        body: object = await client.get("/models", cast_to=object)
    except openai.NotFoundError:
        return ()
    listed = body.get("data") if isinstance(body, Mapping) else None
    ids = [model.get("id") for model in listed if isinstance(model, Mapping)] if isinstance(listed, list) else []
    return tuple(name for name in ids if isinstance(name, str) and name)
