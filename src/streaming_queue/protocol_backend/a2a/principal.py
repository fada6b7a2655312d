"""Who asks, as the guard found out, in the SDK's terms."""

from __future__ import annotations

from a2a.auth.user import User
from a2a.server.context import ServerCallContext
from a2a.server.routes.common import ServerCallContextBuilder
from starlette.requests import Request


class Principal(User):
    """The principal as the SDK's user; None where nobody is authenticated."""

    def __init__(self, principal: str | None) -> None:
        self._principal = principal

    @property
    def is_authenticated(self) -> bool:
        """Whether the guard asked for a credential."""
        return self._principal is not None

    @property
    def user_name(self) -> str:
        """The principal; empty where nobody is authenticated."""
        return self._principal or ""


class ContextBuilder(ServerCallContextBuilder):
    """The SDK's context of a call, with our principal as its user."""

    def build(self, request: Request) -> ServerCallContext:
        """The context for one request."""
        principal = request.scope.get("state", {}).get("principal")
        return ServerCallContext(user=Principal(principal), state={"headers": dict(request.headers)})


def principal_of(context: ServerCallContext) -> str | None:
    """The principal that `ContextBuilder` put into the context."""
    return context.user.user_name or None
