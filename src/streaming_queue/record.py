"""Dataclasses of which many are made for every question."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: type[T]) -> type[T]:
    """A dataclass with slots that the type checker holds to be frozen; at run time nobody guards it.

    The guard of `frozen=True` makes each field of a new instance cost a call: three times the price of the instance.
    """
    return dataclass(slots=True, unsafe_hash=True)(cls)
