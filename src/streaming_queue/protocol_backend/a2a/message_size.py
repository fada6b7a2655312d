"""How many values a message of protobuf has: counted before it is written as JSON, which costs much more."""

from __future__ import annotations

from collections.abc import Mapping

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value

SMALLEST_BYTES = 2
"""What a value needs on the wire at the least: its tag, and its length or itself."""


def has_more_values(message: Message, most: int) -> bool:
    """Whether a message has more than `most` values, at any depth, counted as `comm.strict_json` counts them.

    What is too small for so many is not looked into.
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
                count += not isinstance(outer, Value)  # counted where it is held
            else:
                held = value.values() if isinstance(value, Mapping) else value
                count += len(value)
                if count > most:
                    return True
                inside += [each for each in held if isinstance(each, Message)]
    return count > most
