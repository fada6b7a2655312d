"""The caller that the guard admitted, in the SDK's terms."""

from __future__ import annotations

from dataclasses import dataclass

from a2a.auth.user import User
from a2a.server.context import ServerCallContext
from a2a.server.routes.common import ServerCallContextBuilder
from starlette.requests import Request


@dataclass(frozen=True)
class Principal(User):
    """The principal as the SDK's user. The name is empty where the guard asks for no credential."""

    user_name: str = ""

    @property
    def is_authenticated(self) -> bool:
        """Whether the guard asked for a credential."""
        return bool(self.user_name)


class ContextBuilder(ServerCallContextBuilder):
    """The SDK's context of a call, with our principal as its user."""

    def build(self, request: Request) -> ServerCallContext:
        """The context for one request."""
        principal = request.scope.get("state", {}).get("principal")
        return ServerCallContext(user=Principal(principal or ""), state={"headers": dict(request.headers)})


def principal_of(context: ServerCallContext) -> str | None:
    """The principal that `ContextBuilder` put into the context."""
    return context.user.user_name or None
