"""Throughput and faults over time, as one SVG file without references."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from streaming_queue.failstorm.measures import throughput
from streaming_queue.failstorm.timeline import Timeline

WIDTH, HEIGHT = 960, 300
LEFT, RIGHT, TOP = 56, 16, 56
LANE = 14
SMOOTH_S = 0.5
"""Window of the throughput; shorter dips are not seen."""
LEAST_S = 0.2
"""Least distance of two points."""
STEPS = (1, 2, 5)

_STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #333 }
.title { font-weight: 600; font-size: 14px }
.end { text-anchor: end }
.middle { text-anchor: middle }
.grid { stroke: #ddd }
.offered { stroke: #888; stroke-dasharray: 5 4 }
.rate { fill: none; stroke: #1f6feb; stroke-width: 1.5; stroke-linejoin: round }
.fault { fill: #d1242f; fill-opacity: .12 }
.lane { fill: #2da44e; fill-opacity: .35 }
.hit { fill: #d1242f }
.out { fill: #e3a008 }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117 }
  text { fill: #c9d1d9 }
  .grid { stroke: #30363d }
  .rate { stroke: #58a6ff }
}
"""


def draw(timeline: Timeline, title: str) -> str:
    """The SVG: answers and questions a second, each fault as a band; below, a lane for each worker."""
    return "\n".join(_Drawing(timeline, title).lines()) + "\n"


class _Drawing:
    def __init__(self, timeline: Timeline, title: str) -> None:
        self._timeline = timeline
        self._title = title
        self._points = list(_thinned(list(throughput(timeline, SMOOTH_S))))
        self._end = max((moment for moment, _ in timeline.samples), default=0.0) or 1.0
        self._top = 1.1 * max([timeline.capacity_per_s, *(rate for _, rate in self._points)])
        self._height = HEIGHT + LANE * len(timeline.workers) + 34

    def _x(self, moment: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(moment, 0.0), self._end) / self._end

    def _y(self, per_s: float) -> float:
        return HEIGHT - (HEIGHT - TOP) * per_s / self._top

    def lines(self) -> Iterator[str]:
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self._height}" '
            f'width="{WIDTH}" height="{self._height}" role="img">'
        )
        yield f"<title>{escape(self._title)}</title>"
        yield f"<style>\n{_STYLE}</style>"
        yield f'<text class="title" x="{LEFT}" y="20">{escape(self._title)}</text>'
        yield from self._legend()
        yield from self._axes()
        yield from self._faults()
        yield from self._curve()
        yield from self._lanes()
        yield "</svg>"

    def _legend(self) -> Iterator[str]:
        line, box = '<path class="{}" d="M{} 36h18"/>', '<rect class="{}" x="{}" y="31" width="18" height="9"/>'
        entries = {"rate": "answers/s", "offered": "asked", "hit": "fault", "out": "not asked", "lane": "in service"}
        for number, (kind, text) in enumerate(entries.items()):
            x = LEFT + 110 * number
            mark = (line if kind in {"rate", "offered"} else box).format(kind, x)
            yield f'{mark}<text x="{x + 24}" y="40">{text}</text>'

    def _axes(self) -> Iterator[str]:
        for per_s in _ticks(self._top, 5):
            y = self._y(per_s)
            yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
            yield f'<text class="end" x="{LEFT - 6}" y="{y + 4:.1f}">{per_s:,.0f}</text>'
        bottom = self._height - 10
        for moment in _ticks(self._end, 10):
            yield f'<text class="middle" x="{self._x(moment):.1f}" y="{bottom}">{moment:,.0f} s</text>'

    def _faults(self) -> Iterator[str]:
        for cycle in self._timeline.cycles:
            yield _box("fault", self._x(cycle.began), TOP, self._x(max(cycle.over.values())), HEIGHT - TOP)

    def _curve(self) -> Iterator[str]:
        offered = self._y(self._timeline.offered_per_s)
        yield f'<path class="offered" d="M{LEFT} {offered:.1f}H{WIDTH - RIGHT}"/>'
        if self._points:
            places = " ".join(f"{self._x(moment):.1f},{self._y(rate):.1f}" for moment, rate in self._points)
            yield f'<polyline class="rate" points="{places}"/>'

    def _lanes(self) -> Iterator[str]:
        timeline, last = self._timeline, WIDTH - RIGHT
        for number, worker in enumerate(timeline.workers):
            y, height = HEIGHT + 12 + LANE * number, LANE - 3
            strip = height / 3  # the fault above, the run's view of the worker below
            name = escape(worker.rpartition("-")[2])
            yield f'<text class="end" x="{LEFT - 6}" y="{y + 9}" font-size="9">{name}</text>'
            yield _box("lane", LEFT, y + strip, last, height - strip)
            for began, ended in _outages(timeline, worker):
                yield _box("out", self._x(began), y + strip, self._x(ended), height - strip)
            for cycle in timeline.cycles:
                if worker in cycle.over:
                    yield _box("hit", self._x(cycle.began), y, self._x(cycle.over[worker]), strip)


def _box(kind: str, left: float, top: float, right: float, height: float) -> str:
    width = max(1.0, right - left)
    return f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _outages(timeline: Timeline, worker: str) -> Iterator[tuple[float, float]]:
    """Begin and end of each time out of service."""
    end = timeline.samples[-1][0] if timeline.samples else 0.0
    ups = [moment for moment, who in timeline.ups if who == worker]
    for down, who in timeline.downs:
        if who == worker:
            yield down, min((moment for moment in ups if moment >= down), default=end)


def _thinned(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Points in the middle of their windows, at least `LEAST_S` apart."""
    last = -LEAST_S
    for moment, rate in points:
        if moment - last >= LEAST_S:
            last = moment
            yield moment + SMOOTH_S / 2, rate


def _ticks(end: float, most: int) -> list[float]:
    """Multiples of a plain step from 0 to `end`, about `most` of them at most."""
    size = 1.0
    while True:
        for step in STEPS:
            if end / (step * size) <= most:
                return [step * size * number for number in range(int(end / (step * size)) + 1)]
        size *= 10
