"""Admits callers by an HTTP message signature (RFC 9421) of a did:wba, or by a bearer token for a signature."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from streaming_queue.errors import AuthError, RateLimitedError
from streaming_queue.protocol_backend.anp.library import (
    Document,
    build_content_digest,
    extract_signature_metadata,
    verify_http_message_signature,
)
from streaming_queue.protocol_backend.anp.resolver import ResolutionError
from streaming_queue.protocol_backend.anp.trust import Trust

TOKEN_S = 600
"""The lifetime of a bearer token, seconds."""
PAST_S, FUTURE_S = 300, 60
"""The greatest age of a signature, and the greatest lead of the signer's clock, in seconds; as in the `anp` package."""
MAX_NONCES = 100_000
COMPONENTS = ("@method", "@target-uri", "@authority")
"""A signature covers at least these; with a body, its content-digest too."""

_ALGORITHM = "HS256"
_ACCEPT_SIGNATURE = b'sig1=("@method" "@target-uri" "@authority" "content-digest");created;expires;nonce;keyid'


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as its caller signed it: header names in lower case."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller's DID; the answer has `headers`: after a signature, a token that replaces the next signature."""

    did: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


class DeniedError(AuthError):
    """The caller did not prove its identity; `reason` is for programs, the text for people."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason

    def challenge(self, realm: str) -> tuple[tuple[bytes, bytes], ...]:
        """The headers of the 401 (RFC 9110, 11.6.1)."""
        challenge = f'DIDWba realm="{realm}", error="{self.reason}", error_description="{self}"'
        return (
            (b"www-authenticate", challenge.encode("ascii", "replace")),
            (b"accept-signature", _ACCEPT_SIGNATURE),
        )


class CallerGate:
    """Admits the callers in `trust`, for all agents of a backend. Its key is created once and never leaves it."""

    def __init__(
        self, trust: Trust, *, clock: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self.trust = trust
        self._clock = clock
        self._steady = steady
        self._secret = secrets.token_bytes(32)
        self._nonces: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def admit(self, request: SignedRequest) -> Caller:
        """The caller of this request.

        Raises:
            DeniedError: the caller is not trusted, or the request was changed, was used before, or has a wrong time.
            RateLimitedError: too many signatures were seen in the last minutes.
        """
        authorization = request.headers.get("authorization", "")
        if authorization[:7].lower() == "bearer ":
            return Caller(self._bearer(authorization[7:].strip()))
        if "signature-input" in request.headers or "signature" in request.headers:
            did = await self._signer(request)
            return Caller(did, ((b"authentication-info", self._issue(did)),))
        if authorization:
            raise DeniedError(
                "invalid_request", "this host accepts only HTTP message signatures and its own bearer tokens"
            )
        raise DeniedError("invalid_request", "no identity: sign the request with a did:wba")

    def _bearer(self, token: str) -> str:
        try:
            claims = jwt.decode(token, self._secret, algorithms=[_ALGORITHM], options={"require": ["sub", "exp"]})
        except jwt.InvalidTokenError as error:
            raise DeniedError("invalid_token", "the bearer token is not valid, or has expired: sign again") from error
        return str(claims["sub"])

    def _issue(self, did: str) -> bytes:
        now = int(time.time())  # the library compares with the system's clock
        token = jwt.encode({"sub": did, "iat": now, "exp": now + TOKEN_S}, self._secret, _ALGORITHM)
        return f'access_token="{token}", token_type="Bearer", expires_in={TOKEN_S}'.encode()

    async def _signer(self, request: SignedRequest) -> str:
        """The DID that signed the request; the signature cannot be used again."""
        try:
            metadata = extract_signature_metadata(request.headers)
        except ValueError as error:
            raise DeniedError("invalid_request", "the signature headers cannot be read") from error
        parameters = metadata["params"]
        did, _, fragment = str(parameters.get("keyid", "")).partition("#")
        nonce = parameters.get("nonce")
        if not fragment or not isinstance(nonce, str) or not nonce or len(nonce) > 200:
            raise DeniedError("invalid_request", "the signature needs a keyid (DID#key) and a nonce")
        self._check_cover(metadata["components"], request)
        self._check_time(parameters)
        try:
            document = await self.trust.document(did)
        except ResolutionError as error:
            raise DeniedError("invalid_did", f"the caller's DID: {error}") from error
        _check_signature(document, f"{did}#{fragment}", request)
        self._spend(did, nonce)
        return did

    @staticmethod
    def _check_cover(components: list[str], request: SignedRequest) -> None:
        """Check that the signature covers enough; the package verifies only the covered parts."""
        needed = {*COMPONENTS, "content-digest"} if request.body else {*COMPONENTS}
        if missing := sorted(needed - {component.lower() for component in components}):
            raise DeniedError("invalid_signature", f"the signature does not cover {' '.join(missing)}")
        if request.body and request.headers.get("content-digest", "").strip() != build_content_digest(request.body):
            raise DeniedError("invalid_signature", "the body differs from the signed body (sha-256)")

    def _check_time(self, parameters: dict[str, Any]) -> None:
        created, expires, now = parameters.get("created"), parameters.get("expires"), self._clock()
        if not isinstance(created, int) or not now - PAST_S <= created <= now + FUTURE_S:
            raise DeniedError("invalid_timestamp", "the signature's time differs from this host's: check both clocks")
        if expires is not None and (not isinstance(expires, int) or expires < now):
            raise DeniedError("invalid_timestamp", "the signature has expired: check both clocks")

    def _spend(self, did: str, nonce: str) -> None:
        now = self._steady()
        while self._nonces and next(iter(self._nonces.values())) <= now:
            self._nonces.popitem(last=False)
        if (did, nonce) in self._nonces:
            raise DeniedError("invalid_nonce", "the signature was used before: sign each request again")
        if len(self._nonces) >= MAX_NONCES:
            raise RateLimitedError(
                "too many signed requests in the last minutes; use the bearer token", retry_after_s=60
            )
        self._nonces[did, nonce] = now + PAST_S + FUTURE_S + 1


def _check_signature(document: Document, keyid: str, request: SignedRequest) -> None:
    allowed = [entry.get("id") if isinstance(entry, dict) else entry for entry in document.get("authentication", ())]
    if keyid not in allowed:
        raise DeniedError("invalid_verification_method", "this key of the DID is not for authentication")
    valid, _, _ = verify_http_message_signature(
        did_document=dict(document),
        request_method=request.method,
        request_url=request.url,
        headers=request.headers,
        body=request.body,
    )
    if not valid:
        raise DeniedError("invalid_signature", "the signature of the DID's key does not match this request")
