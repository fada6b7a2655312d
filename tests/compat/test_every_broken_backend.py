"""The kit over every broken backend, those that `tests/conformance` leaves out for their time too."""

from __future__ import annotations

import pytest
from conformance.test_broken import BROKEN, SOME, run_each


@pytest.mark.timeout(600)
def test_what_else_is_broken_is_found() -> None:
    run_each(name for name in BROKEN if name not in SOME)
