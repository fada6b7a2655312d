from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_queue.telemetry.text import clock, duration, figure, lines, one_line, percent, rate, visible


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_no_control_character_is_left_on_a_line(text):
    shown = one_line(text)
    assert not any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in shown)
    assert "\u202e" not in shown
    shown.encode()


@given(st.text() | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp"])))
def test_an_answer_keeps_its_lines_and_tabs_and_nothing_else_that_a_terminal_obeys(text):
    shown = visible(text)
    assert not any(
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in shown if character not in "\n\t"
    )
    assert shown.count("\n") == text.count("\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("a\rb\tc\x9b", r"a\rb\tc\x9b"),
        ("right\u202eleft", r"right\u202eleft"),
        ("[bold]no markup[/bold] :smile:", "[bold]no markup[/bold] :smile:"),
        ("\ud800", r"\ud800"),
        ("纳米 é 👩‍🔬", "纳米 é 👩‍🔬"),
        ("two\nlines", r"two\nlines"),
    ],
)
def test_hostile_text_is_shown_and_not_obeyed(text, shown):
    assert one_line(text) == shown


def test_a_line_break_cannot_forge_a_line_of_ours():
    assert lines("broke\n[SUCCESS] all is well\r\n", "        ") == "broke\n        [SUCCESS] all is well\\r\n        "


def test_a_flood_of_text_is_cut():
    assert one_line("x" * 10_000) == "x" * 4000 + "… (6,000 characters more)"
    assert lines("x" * 5000, "") == "x" * 4000 + "… (1,000 characters more)"
    assert one_line("abcdef", 3) == "abc… (3 characters more)"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0, "0.00 s"),
        (0.123, "0.12 s"),
        (12.34, "12.3 s"),
        (59.99, "1:00"),
        (125, "2:05"),
        (3725.2, "1:02:05"),
    ],
)
def test_durations_read_well(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0, "0"),
        (0.0421, "0.042"),
        (4.213, "4.21"),
        (9.999, "10.0"),
        (31.24, "31.2"),
        (99.96, "100"),
        (1234.5, "1,234"),
    ],
)
def test_figures_keep_three_digits(value, shown):
    assert figure(value) == shown
    assert rate(value) == (shown if value is None else f"{shown}/s")


def test_shares_and_clocks():
    assert [percent(share) for share in (None, 0.004, 0.12, 1)] == ["-", "0.4 %", "12 %", "100 %"]
    assert [clock(seconds) for seconds in (None, 0, 75)] == ["-", "0:00", "1:15"]
