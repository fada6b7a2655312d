"""A rich console without hostile characters. Imports rich: import this module only for drawing."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from streaming_queue.telemetry.text import visible


class SafeConsole(Console):
    """Writes control characters in texts as their escapes; only rich itself sets colours and moves the cursor."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `Console.render`."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
