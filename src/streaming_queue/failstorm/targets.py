"""What a storm promises, and what of it was not kept."""

from __future__ import annotations

from streaming_queue.failstorm.plan import Fault
from streaming_queue.failstorm.summary import Summary

RESET_SEEN_S = 1.0
SILENCE_SEEN_S = 3.0
RECOVERED_S = 2.0


def misses(summary: Summary, fault: Fault) -> list[str]:
    """Each target that was missed, in words. A time meets its target with the upper end of its interval."""
    missed = [
        f"{name} {count:,}, not 0"
        for name, count in (
            ("lost", summary.lost),
            ("recorded_twice", summary.recorded_twice),
            ("wrongly_ejected", summary.wrongly_ejected),
        )
        if count
    ]
    limits = {"detection_s": RESET_SEEN_S if fault.resets else SILENCE_SEEN_S, "recovery_s": RECOVERED_S}
    for name, limit_s in limits.items():
        found = summary.times[name]
        if found is not None and found.high > limit_s:
            missed.append(f"{name} up to {found.high:.3g}, not {limit_s:g} at the most")
    return missed
