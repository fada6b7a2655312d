"""Which changes of the code does no test notice? `python bench/mutants.py GROUP [MUTANT... | survivors]`.

A group is a table [tool.mutants.NAME] of pyproject.toml: the modules that mutmut changes, and the tests that should
notice. Each group works in its own folder, build/mutants/NAME; `mutmut show MUTANT` there shows a change. A run can be
stopped at any time: the next one goes on where it was, and tries again only the functions that changed meanwhile.
`survivors` tries those again that the tests did not notice.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

from mutmut.stats import status_by_exit_code

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutants"
COPIED = ("src", "tests", "examples", "docs")
PYTEST = ["-o", "addopts=--import-mode=importlib", "-p", "no:xdist", "-p", "no:cacheprovider", "--timeout=10"]
DETERMINISTIC = ["--hypothesis-seed=1", "-m", "not interop and not faults", "-k", "not runTest"]
"""`runTest`: a state machine takes seconds for each mutant, and finds by chance what a test of a rule should show."""
SETTINGS = {
    "source_paths": ["src"],
    "also_copy": ["examples", "docs"],
    "pytest_add_cli_args": PYTEST + DETERMINISTIC,
    "timeout_multiplier": 3.0,
    "timeout_constant": 5.0,
}
NOTICED = ("killed", "timeout")


def set_up(name: str, group: dict[str, Any]) -> Path:
    """The group's folder with the checkout's own files, and mutmut's settings."""
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    for part in COPIED:
        shutil.rmtree(folder / part, ignore_errors=True)
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)  # which tests touch what may have changed
    missing = [path for path in group["modules"] + group["tests"] if not (ROOT / path).exists()]
    if missing:
        sys.exit(f"pyproject.toml: tool.mutants.{name} names what is not there: {', '.join(missing)}")
    settings = SETTINGS | {"only_mutate": group["modules"], "pytest_add_cli_args_test_selection": group["tests"]}
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    text = (ROOT / "pyproject.toml").read_text()
    (folder / "pyproject.toml").write_text(f"{text}\n[tool.mutmut]\n" + "\n".join(lines) + "\n")
    return folder


def results(folder: Path, modules: list[str]) -> dict[str, dict[str, str]]:
    """For each module: how each of its mutants ended."""
    ends = {}
    for module in modules:
        meta = folder / "mutants" / f"{module}.meta"
        codes = json.loads(meta.read_text())["exit_code_by_key"] if meta.exists() else {}
        ends[module] = {mutant: status_by_exit_code[code] for mutant, code in codes.items()}
    return ends


def main() -> int:
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mutants"]
    name, *mutants = sys.argv[1:] or [""]
    if name not in groups:
        sys.exit(f"name a group: {', '.join(groups)}")
    group = groups[name]
    folder = set_up(name, group)
    if mutants == ["survivors"]:
        ends = results(folder, group["modules"]).values()
        mutants = [mutant for module in ends for mutant, end in module.items() if end not in NOTICED]
        if not mutants:
            sys.exit(f"{name}: there are none")
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", "1", *mutants]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONHASHSEED": "0"}, check=False)
    total: Counter[str] = Counter()
    for module, mutant_ends in results(folder, group["modules"]).items():
        count = Counter(mutant_ends.values())
        print(f"{module:60} {dict(count)}")
        total += count
    killed = sum(total[end] for end in NOTICED)
    print(f"{name}: {killed} of {total.total()} killed, {killed / max(1, total.total()):.1%}")
    return done.returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
