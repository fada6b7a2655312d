"""Counts the values in a protobuf message before it becomes JSON: the conversion costs much more."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value

SMALLEST_BYTES = 2
"""The smallest size of a value on the wire: its tag, and its length or content."""


def has_more_values(message: Message, most: int) -> bool:
    """Whether a message has more than `most` values, at any depth, counted as `comm.strict_json` counts them.

    It does not count a message that is too small for this many values.
    """
    if message.ByteSize() <= SMALLEST_BYTES * most:
        return False
    inside, count = [message], 0
    while inside and count <= most:
        outer = inside.pop()
        for _, value in outer.ListFields():
            if isinstance(value, Message):
                inside.append(value)
                count += 1
            elif isinstance(value, str | bytes | int | float):
                count += not isinstance(outer, Value)  # the value's holder counts it
            else:
                held = value.values() if isinstance(value, Mapping) else value
                count += len(value)
                if count > most:
                    return True
                inside += [each for each in held if isinstance(each, Message)]
    return count > most
