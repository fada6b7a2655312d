"""Check the provider of the answers: its connection, key and model."""

from __future__ import annotations

from functools import partial
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from streaming_queue.config import Config
from streaming_queue.doctor.connecting import connect
from streaming_queue.doctor.examination import STEP_S, in_thread
from streaming_queue.doctor.finding import Finding, failure, ok, problem, warning
from streaming_queue.errors import (
    AuthError,
    ConfigError,
    ConnectError,
    QuotaError,
    RateLimitedError,
    StreamingQueueError,
)
from streaming_queue.exit_codes import ExitCode
from streaming_queue.extras import install_command
from streaming_queue.llm.base import KeyState, ModelListing
from streaming_queue.llm.choice import NOTHING, ProviderChoice, choose

CONFIGURE = (
    f"for a real one: {install_command('openai')}, set OPENAI_API_KEY (and OPENAI_BASE_URL for another "
    "server), name the model by --model"
)
_KEYS = {
    KeyState.ACCEPTED: "the key is accepted",
    KeyState.NOT_SENT: "no key is sent",
    KeyState.NOT_CHECKED: "the first question shows whether the key is accepted: the server lists models without a key",
}


async def provider(config: Config) -> list[Finding]:
    """Check the provider without a question, so without cost."""
    choice = await in_thread(partial(choose, config.core, config.mock))
    if choice.llm.is_mock:
        seen = choice.describe().removeprefix("LLM: ")
        return [warning("provider", seen, CONFIGURE) if choice.reason == NOTHING else ok("provider", seen, CONFIGURE)]
    try:
        if choice.address and not _by_proxy(choice.address):
            await _connect(choice.address)
        listing = await choice.llm.listing(STEP_S)
    except RateLimitedError as error:
        return [warning("provider", str(error), "wait, or lower qa.worker.concurrency")]
    except StreamingQueueError as error:
        return [failure("provider", error, _remedy(error, config))]
    finally:
        await choice.llm.close()
    return [_listed(choice, listing)] if listing else [ok("provider", choice.describe())]


async def _connect(address: str) -> None:
    try:
        await connect(address)
    except ConnectError as error:
        raise ConnectError(f"{address}: {error}") from None


def _by_proxy(address: str) -> bool:
    """Whether the provider's library uses a proxy of the environment. Then our own connection proves nothing."""
    parts = urlsplit(address)
    return not {parts.scheme, "all"}.isdisjoint(getproxies()) and not proxy_bypass(parts.netloc)


def _remedy(error: StreamingQueueError, config: Config) -> str | None:
    if isinstance(error, ConfigError):
        return None  # the text names it
    if isinstance(error, QuotaError):
        return "top up the account"
    if not isinstance(error, AuthError):
        return "start the server, check the network between, or correct its address (OPENAI_BASE_URL, core.base_url)"
    if config.core.is_local:
        return "give the server's key as core.openai_api_key; OPENAI_API_KEY is not sent to core.base_url or core.port"
    return "correct OPENAI_API_KEY (or core.openai_api_key), or the address"


def _listed(choice: ProviderChoice, listing: ModelListing) -> Finding:
    llm, models = choice.llm, listing.models
    where = f"{llm.provider} at {choice.address} ({choice.reason})"
    if not models and not llm.model:
        return problem("provider", f"{where}: it lists no models", "name one in core.name (--model)", ExitCode.USAGE)
    if not models:
        seen = f"{where}: it keeps no list of models: only the first question shows whether key and model are right"
        return warning("provider", seen, "ask one question: stq run -n 1")
    model = llm.model or models[0]
    key = _KEYS[listing.key]
    if model not in models:
        shown = ", ".join(models[:5]) + (f" and {len(models) - 5} more" if len(models) > 5 else "")
        return warning("provider", f"{where}: {key}; model {model} is not listed", f"choose one that is: {shown}")
    return ok("provider", f"{where}: {key}; model {model} is there")
