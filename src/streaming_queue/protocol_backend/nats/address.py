"""The addresses of servers and agents, and the logins at servers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, unquote, urlsplit

from streaming_queue.errors import ConfigError

SCHEMES = ("nats", "tls")
DEFAULT_PORT = 4222

_TOKENS = re.compile(r"[^\s.*>\x00-\x1f\x7f]+(\.[^\s.*>\x00-\x1f\x7f]+)*")


@dataclass(frozen=True, slots=True)
class Server:
    """A server's address without credentials, safe to show. The scheme `tls` encrypts everything."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """Host and port, as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True)
class Login:
    """Our login at a server; all empty: none. `credentials` is the path of a file with a JWT and its seed."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials: str | None = None

    @property
    def inbox(self) -> str:
        """The prefix of the subjects where this login receives; a user with a password has its own."""
        return "_INBOX" if self.password is None else f"_INBOX.{_token(self.user or '')}"


def parse_server(url: str, credentials: str | None = None) -> tuple[Server, Login]:
    """The server and the login in `nats://[user:password@|token@]host[:port]`. Raises ConfigError, without secrets."""
    parts = _split(url)
    if parts is None or parts.path.strip("/"):
        raise ConfigError(
            "nats.url must be nats://host:port or tls://host:port, with user:password@ or token@ before the host if "
            "the server needs it (percent-encode special characters)"
        )
    user = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password is not None else None
    login = Login(user, password) if password is not None else Login(token=user)
    if credentials is not None:
        if user is not None:
            raise ConfigError("nats.url has a user or token, and nats.credentials is set, too: remove one of them")
        login = Login(credentials=credentials)
    return _server(parts), login


def parse_agent(agent_id: str, address: str) -> tuple[Server, str]:
    """The server and the subject in `nats://host:port/subject`. Raises ConfigError, without secrets."""
    parts = _split(address)
    subject = parts.path[1:] if parts is not None else ""
    if parts is None or parts.username is not None or _TOKENS.fullmatch(subject) is None:
        raise ConfigError(
            f"agent {agent_id!r}: address {address.rpartition('@')[2]!r} must be nats://host:port/subject or "
            "tls://host:port/subject, without wildcards; set a credential in nats.url"
        )
    return _server(parts), subject


def subject_of(prefix: str, agent_id: str) -> str:
    """The subject of an agent: its id is one token; characters that NATS or a URL refuses are percent-encoded."""
    return f"{prefix}.{_token(agent_id)}"


def check_prefix(prefix: str) -> str:
    """`prefix`, if it is a valid beginning of subjects; else raises ConfigError."""
    if _TOKENS.fullmatch(prefix) is None or quote(prefix, safe="") != prefix:
        raise ConfigError(f"nats.prefix {prefix!r} must be words of letters, digits, - and _, with dots between")
    return prefix


def _token(text: str) -> str:
    return quote(text, safe="").replace(".", "%2E").replace("~", "%7E")


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in SCHEMES and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable and not parts.query and not parts.fragment else None


def _server(parts: SplitResult) -> Server:
    return Server(parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORT)
