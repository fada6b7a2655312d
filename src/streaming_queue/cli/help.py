"""The layout of help: commands in sections, and below each help an example and a page of the documentation."""

from __future__ import annotations

from typing import Any, ClassVar

from typer.core import TyperGroup

SECTIONS = ("Ask", "Read", "Steer", "Set up")


class SectionedGroup(TyperGroup):
    """A group that lists its commands under `SECTIONS`, in the order of `names`."""

    names: ClassVar[list[str]] = []
    """Names of commands in order; typer itself would put groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names of the commands, in the order of `names`."""
        del ctx
        return sorted(self.commands, key=lambda name: self.names.index(name) if name in self.names else len(self.names))

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the visible commands, section by section."""
        shown = [self.commands[name] for name in self.list_commands(ctx) if not self.commands[name].hidden]
        width = max((len(str(command.name)) for command in shown), default=0)
        for section in SECTIONS:
            rows = [
                (str(command.name).ljust(width), command.get_short_help_str(formatter.width - width - 6))
                for command in shown
                if getattr(command, "rich_help_panel", None) == section
            ]
            if rows:
                with formatter.section(section):
                    formatter.write_dl(rows)


def epilog(example: str, page: str) -> str:
    """The end of a help text: a command line that works, and a page of the documentation."""
    return f"Example:  {example}\n\nDocumentation:  {page}"
