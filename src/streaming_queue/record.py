"""Cheap dataclasses, because each question makes many instances."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """A dataclass with slots that is frozen for the type checker and unguarded at run time.

    The guard of `frozen=True` calls a function for each field, and makes an instance three times as expensive.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
