"""A server that wants JWTs, and a file of credentials for it: what NATS's own tool would make (its JWT, version 2)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import nkeys

OPERATOR, ACCOUNT, USER = 14 << 3, 0, 20 << 3


def pair(kind: int) -> nkeys.KeyPair:
    return nkeys.from_seed(nkeys.encode_seed(os.urandom(32), kind))


def token(issuer: nkeys.KeyPair, subject: nkeys.KeyPair, kind: str, **claims: Any) -> str:
    document = {
        "iss": issuer.public_key.decode(),
        "sub": subject.public_key.decode(),
        "name": kind,
        "iat": int(time.time()),
        "nats": {"type": kind, "version": 2, **claims},
    }
    document["jti"] = base64.b32encode(hashlib.sha256(json.dumps(document).encode()).digest()).decode().rstrip("=")
    head, body = (_encoded(json.dumps(part).encode()) for part in ({"typ": "JWT", "alg": "ed25519-nkey"}, document))
    return f"{head}.{body}.{_encoded(issuer.sign(f'{head}.{body}'.encode()))}"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def make(directory: Path) -> tuple[str, Path, str]:
    """The server's configuration, a file of credentials, and the secret in it."""
    operator, account, user = pair(OPERATOR), pair(ACCOUNT), pair(USER)
    unlimited = {"subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1}
    account_name = account.public_key.decode()
    configuration = (
        f"operator: {token(operator, operator, 'operator')}\nresolver: MEMORY\n"
        f"resolver_preload: {{ {account_name}: {token(operator, account, 'account', limits=unlimited)} }}\n"
    )
    limits = {"subs": -1, "data": -1, "payload": -1}
    seed = user.seed.decode()
    path = directory / "user.creds"
    path.write_text(
        f"-----BEGIN NATS USER JWT-----\n{token(account, user, 'user', **limits)}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    return configuration, path, seed
