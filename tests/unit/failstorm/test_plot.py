from __future__ import annotations

from xml.etree import ElementTree as ET

from unit.failstorm.storms import timeline

from streaming_queue.failstorm.plot import HEIGHT, LEFT, RIGHT, TOP, WIDTH, draw
from streaming_queue.failstorm.timeline import Cycle

SVG = "{http://www.w3.org/2000/svg}"
CYCLES = [Cycle(5.0, {"W1": 10.0}, 12.0), Cycle(12.0, {"W2": 15.0, "W3": 16.0}, 20.0)]


def parsed(picture: str) -> ET.Element:
    return ET.fromstring(picture)  # noqa: S314 (our own)


def boxes(picture: str, kind: str) -> list[dict[str, str]]:
    return [dict(box.attrib) for box in parsed(picture).iter(f"{SVG}rect") if box.get("class") == kind]


def test_faults_are_marked_where_they_were() -> None:
    picture = draw(timeline(cycles=CYCLES, downs=[(6.0, "W1")], ups=[(11.0, "W1")]), "http: <kill>")
    first, second = boxes(picture, "fault")
    width = WIDTH - LEFT - RIGHT
    assert float(first["x"]) == round(LEFT + width * 5 / 20, 1)
    assert float(first["width"]) == round(width * 5 / 20, 1)
    assert float(second["width"]) == round(width * 4 / 20, 1)
    assert len(boxes(picture, "hit")) == 1 + 3  # one is the legend's
    (_, out) = boxes(picture, "out")
    assert float(out["width"]) == round(width * 5 / 20, 1)
    assert "http: <kill>" in [text.text for text in parsed(picture).iter(f"{SVG}text")]


def test_the_curve_is_the_throughput() -> None:
    picture = draw(timeline(pace=[(10.0, 0.0)], capacity_per_s=100.0), "x")
    (line,) = parsed(picture).iter(f"{SVG}polyline")
    places = [tuple(map(float, place.split(","))) for place in line.get("points", "").split()]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert abs(places[0][1] - (HEIGHT - (HEIGHT - TOP) / 1.1)) < 0.1
    assert places[-1][1] == HEIGHT
    assert all(LEFT <= x <= WIDTH - RIGHT and TOP <= y <= HEIGHT for x, y in places)


def test_it_needs_nothing_from_elsewhere() -> None:
    picture = draw(timeline(cycles=CYCLES), "x")
    assert picture.count("http") == 1  # the name space
    assert "href" not in picture
    assert "<script" not in picture


def test_a_storm_that_saw_nothing_is_drawn_too() -> None:
    parsed(draw(timeline(until=0.0), "x"))
