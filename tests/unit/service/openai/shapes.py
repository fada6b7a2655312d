"""Checks of our objects against the official package: its models, with missing and unknown members found."""

from __future__ import annotations

from typing import Any, TypeVar

import pydantic
from hypothesis import strategies as st

M = TypeVar("M", bound=pydantic.BaseModel)

SURROGATES = st.characters(categories=["Cs"])
TEXTS = st.text() | st.text(SURROGATES | st.characters())
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)


def shaped(model: type[M], document: Any) -> M:
    """`document` as the official `model`: strictly typed, and without a member that the model does not know."""
    parsed = model.model_validate(document, strict=True)
    assert unknown(parsed) == []
    return parsed


def unknown(parsed: Any, path: str = "") -> list[str]:
    """The members that the official models took as extra ones, at any depth."""
    if isinstance(parsed, list):
        return [each for index, one in enumerate(parsed) for each in unknown(one, f"{path}[{index}]")]
    if not isinstance(parsed, pydantic.BaseModel):
        return []
    inner = [
        each for name in type(parsed).model_fields for each in unknown(getattr(parsed, name, None), f"{path}.{name}")
    ]
    return [f"{path}.{name}" for name in parsed.model_extra or {}] + inner


def nested(levels: int, core: Any = None) -> Any:
    """A document nested `levels` deep, lists and objects by turns."""
    for level in range(levels):
        core = [core] if level % 2 else {"type": core}
    return core
