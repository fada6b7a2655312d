"""One more backend: its own folder, one line of the registry, one page. All else comes from the registry.

`pigeon/` is the folder. It is tried as one of ours, in a copy of the checkout, and as a package of others.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from guide.checkout import ROOT, Checkout

PIGEON = Path(__file__).parent / "pigeon"
PAGE = PIGEON.with_suffix(".md")
LINE = '    _ours("pigeon", "PigeonCommBackend", "a line each way", section="Pigeon"),\n'
ENTRY_POINTS = """\
[streaming_queue.backends]
pigeon = pigeon.comm:PigeonCommBackend

[streaming_queue.sections]
pigeon = pigeon.options:Pigeon
"""

Python = Callable[..., str]


def add_package(place: Path, entry_points: str = ENTRY_POINTS) -> Path:
    """Install `pigeon` as a package into a folder."""
    shutil.copytree(PIGEON, place / "pigeon", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "pigeon-1.0.dist-info").mkdir()
    (place / "pigeon-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: pigeon\nVersion: 1.0\n")
    (place / "pigeon-1.0.dist-info" / "entry_points.txt").write_text(entry_points)
    return place


def add_to_ours(checkout: Checkout) -> None:
    """The folder and the line; the page is `pigeon.md`."""
    package = checkout.root / "src" / "streaming_queue"
    shutil.copytree(PIGEON, package / "protocol_backend" / "pigeon", ignore=shutil.ignore_patterns("__pycache__"))
    registry, head = package / "comm" / "registry.py", "BUILTIN: tuple[BackendSpec, ...] = (\n"
    assert head in registry.read_text()
    registry.write_text(registry.read_text().replace(head, head + LINE))


def interpreter(directory: Path, *places: Path) -> Python:
    def python(*arguments: str, code: int = 0, **environment: str) -> str:
        path = os.pathsep.join(map(str, places))
        done = subprocess.run(
            [sys.executable, *arguments], cwd=directory, env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr if code else done.stdout

    return python


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Python:
    checkout = Checkout.create(tmp_path_factory.mktemp("ours"))
    add_to_ours(checkout)
    return interpreter(checkout.root, checkout.root / "src", ROOT / "tests", ROOT / "bench")


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Python:
    place = add_package(tmp_path_factory.mktemp("packaged"))
    return interpreter(place, place)


@pytest.fixture(params=["ours", "packaged"])
def python(request: pytest.FixtureRequest) -> Python:
    return request.getfixturevalue(request.param)


def test_a_backend_in_the_checkout_has_a_section_too(tmp_path: Path) -> None:
    checkout = Checkout.create(tmp_path)
    checkout.put(PIGEON / "comm.py", "protocol_backend/pigeon")
    checkout.put(PIGEON / "options.py", "protocol_backend/pigeon")
    options = checkout.root / "script" / "streaming_queue" / "protocol_backend" / "pigeon" / "options.py"
    options.write_text(options.read_text().replace("class Pigeon(", "class Options("))
    python = interpreter(tmp_path, tmp_path / "src")
    shown = json.loads(python(*STQ, "config", "show", "--json", "-s", "pigeon.greeting=hi"))
    assert shown["pigeon.greeting"] == {"value": "hi", "origin": "-s"}


STQ = ("-m", "streaming_queue.cli")


def test_its_section_is_a_part_of_the_configuration(python: Python) -> None:
    schema = json.loads(python(*STQ, "config", "schema"))
    described = {name: key["description"] for name, key in schema["$defs"]["Pigeon"]["properties"].items()}
    assert described == {"greeting": "The text before each answer.", "ring": "The mark of the pigeon. Never shown."}
    assert schema["properties"]["pigeon"]["$ref"].endswith("/Pigeon")
    shown = json.loads(python(*STQ, "config", "show", "--json", PIGEON_RING="s3cret", STQ_PIGEON__GREETING="hi"))
    assert shown["pigeon.ring"] == {"value": "***", "origin": "PIGEON_RING"}
    assert shown["pigeon.greeting"] == {"value": "hi", "origin": "STQ_PIGEON__GREETING"}
    assert "did you mean pigeon.greeting" in python(*STQ, "config", "show", "-s", "pigeon.greting=x", code=2)


def test_it_is_listed(python: Python) -> None:
    (entry,) = (each for each in json.loads(python(*STQ, "protocol", "list", "--json")) if each["name"] == "pigeon")
    assert (entry["installed"], entry["capabilities"], entry["schemes"]) == (True, ["host"], ["pigeon"])


def test_a_run_over_it_works_by_its_section(python: Python, tmp_path: Path) -> None:
    groups = "workers=[{protocol: pigeon, count: 2}, {protocol: pigeon, options: {greeting: moo-}}]"
    sets = ("-s", "pigeon.greeting=coo-", "-s", groups, "-s", "mock.latency_ms=1", "-s", "qa.worker.mode=process")
    python(*STQ, "run", "-p", "pigeon", "-n", "40", "-o", str(tmp_path / "run"), *sets)
    rows = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    assert len(rows) == 40
    greetings = {row["worker"]: row["answer"][:4] for row in rows}
    assert greetings.items() <= {"Worker-1": "coo-", "Worker-2": "coo-", "Worker-3": "moo-"}.items()
    assert {row["protocol"] for row in rows} == {"pigeon"}


def test_it_is_a_case_of_the_tests_and_of_the_bench(ours: Python) -> None:
    code = """
import json, bench, conformance.test_backends, e2e.protocols
print(json.dumps([bench.cases(), e2e.protocols.ALL, list(vars(conformance.test_backends))]))
"""
    benched, e2e, kit = json.loads(ours("-c", code))
    assert benched["pigeon"] is False
    assert "pigeon" in e2e
    assert "inproc" not in e2e
    assert "Test_pigeon" in kit


def test_the_page_and_the_rows_are_asked_for(ours: Python) -> None:
    page = json.dumps(PAGE.read_text())
    assert ours("-c", f"from docs.test_protocols import untold; print(untold('pigeon', {page}))") == "[]\n"
    files = ("tests/docs/test_protocols.py", "tests/unit/runner/test_modules.py")
    checks = [str(ROOT / file) for file in files]
    failed = ours("-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "--rootdir", str(ROOT), *checks, code=1)
    names = re.findall(r"^FAILED .*::(\w+)", failed, re.MULTILINE)
    assert sorted(set(names)) == [
        "test_a_page_names_each_key_of_its_section",
        "test_a_readme_has_a_true_row_for_each",
        "test_each_has_one_page_and_no_other_page_is_there",
        "test_each_protocol_has_one_and_nothing_else_has",
    ]


@pytest.mark.interop  # the kit waits a lot; the case itself is in the list above
def test_the_kit_holds_it_to_the_contract(ours: Python) -> None:
    assert json.loads(ours(*STQ, "protocol", "test", "pigeon", "--json"))["failed"] == 0


def test_its_cost_is_measured(ours: Python) -> None:
    report = json.loads(
        ours(*STQ, "protocol", "bench", "pigeon", "--against", "", "-n", "20", "--rounds", "1", "--json")
    )
    assert [row["protocol"] for row in report["rows"]] == ["pigeon"]


@pytest.mark.parametrize(
    ("section", "names"),
    [
        ("pigeon = pigeon.nowhere:Pigeon", "pigeon.nowhere:Pigeon"),
        ("pigeon = pigeon.options:Nothing", "pigeon.options:Nothing"),
        ("pigeon = pigeon.comm:PigeonCommBackend", "BackendSection"),
        ("core = pigeon.options:Pigeon", "'core'"),
    ],
)
def test_a_section_that_cannot_be_used_is_named(tmp_path: Path, section: str, names: str) -> None:
    name = section.partition(" ")[0]
    entry_points = f"[streaming_queue.backends]\n{name} = pigeon.comm:PigeonCommBackend\n[streaming_queue.sections]\n"
    place = add_package(tmp_path, entry_points + section)
    said = interpreter(place, place)(*STQ, "config", "show", code=2)
    assert said.startswith("error: ")
    assert names in said
