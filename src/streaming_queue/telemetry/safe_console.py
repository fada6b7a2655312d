"""A rich console that never passes hostile text on. Imports rich: import it only when something is to be drawn."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from streaming_queue.telemetry.text import visible


class SafeConsole(Console):
    """Writes control characters in text as their escapes, whatever is drawn; colours and cursor movement are rich's."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `Console.render`."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
