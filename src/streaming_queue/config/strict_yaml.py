"""Strict YAML by the safe loader. Duplicate keys and alias bombs are refused, and each error names its line."""

from __future__ import annotations

from typing import Any

import yaml

from streaming_queue.errors import ConfigError

_MERGE = "tag:yaml.org,2002:merge"
_MOST_REPEATED = 100_000
"""The most characters that all aliases of a text may repeat. A node counts as one more."""
_MOST_LEVELS = 100
_TOO_DEEP = f"it is nested too deeply: over {_MOST_LEVELS} levels"


class _Loader(yaml.SafeLoader):
    """Counts the repeats of aliases while it composes, so that a small text never becomes a large value."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._anchored: dict[yaml.Node, tuple[int, int]] = {}
        self._size = 0
        self._repeated = 0
        self._level = 0
        self._height = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        size, height, self._height = self._size, self._height, 0
        self._level += 1
        if self._level > _MOST_LEVELS:
            raise _refused(_TOO_DEEP, event)
        node: Any = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if node not in self._anchored:
                raise _refused(f"the alias *{event.anchor} is inside its own anchor", event)
            more, self._height = self._anchored[node]
            self._size += more
            self._repeated += more
            if self._repeated > _MOST_REPEATED:
                raise _refused(f"the aliases repeat over {_MOST_REPEATED:,} characters; write less with them", event)
            if self._level + self._height > _MOST_LEVELS:
                raise _refused(_TOO_DEEP, event)
        else:
            self._size += 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
            self._height += 1
            if event.anchor is not None:
                self._anchored[node] = self._size - size, self._height
        self._height = max(height, self._height)
        self._level -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if first := seen.get((key.tag, key.value)):
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value!r} is given twice, first in line {first}", problem_mark=key.start_mark
                )
            seen[key.tag, key.value] = key.start_mark.line + 1
        return node


def _refused(problem: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def parse(text: str, name: str, *, lines: bool = True) -> tuple[Any, dict[str, int]]:
    """The one document in `text` (None if it is empty), and the line of each key, by its dotted path.

    Raises ConfigError, its text beginning with `name:line`, or `name` alone where `lines` is false.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        return loader.construct_document(node), _lines(node)
    except yaml.reader.ReaderError as error:
        line, problem = text.count("\n", 0, error.position) + 1, f"the character {error.character!r} is not allowed"
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        problem = ", ".join(part for part in (error.context, error.problem) if part)
    except (ValueError, OverflowError) as error:  # a date or number that its notation allows and Python does not
        line, problem = 1, str(error)
    finally:
        if loader is not None:
            loader.dispose()
    raise ConfigError(f"{name}:{line}: {problem}" if lines else f"{name}: {problem}")


def _lines(root: yaml.Node) -> dict[str, int]:
    found: dict[str, int] = {}
    seen: set[int] = set()  # an alias repeats a node, or leads back to it
    todo = [("", root)]
    while todo:
        prefix, node = todo.pop()
        if not isinstance(node, yaml.MappingNode) or id(node) in seen:
            continue
        seen.add(id(node))
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                path = f"{prefix}{key.value}"
                found.setdefault(path, key.start_mark.line + 1)
                todo.append((f"{path}.", value))
    return found
