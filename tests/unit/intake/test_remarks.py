"""No field of a record is lost without a word, and no word is said twice."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_queue.config import Config
from streaming_queue.core.feed import Feed
from streaming_queue.intake import names, remarks
from streaming_queue.intake.fields import RecordError
from streaming_queue.intake.names import folded
from streaming_queue.intake.parser import Parser, Problem
from streaming_queue.messages import Question
from streaming_queue.queue.memory import MemoryQueue
from streaming_queue.telemetry.events import Notice

PAGE = (Path(__file__).parents[3] / "docs" / "input.md").read_text(encoding="utf-8")

DATASETS = {
    "gaia": (
        {"task_id": "t1", "Question": "Q", "Level": 1, "Final answer": "A", "file_name": "", "Annotator Metadata": {}},
        Question("Q", "t1", "A"),
        ["Level", "file_name", "Annotator Metadata"],
    ),
    "gsm8k": ({"question": "Q", "answer": "long #### 5"}, Question("Q", None, "long #### 5"), []),
    "math-500": (
        {"problem": "Q", "solution": "long", "answer": "A", "subject": "x", "unique_id": "t/1"},
        Question("Q", "t/1", "A"),
        ["subject", "solution"],
    ),
    "mmlu": (
        {"question": "Q", "subject": "x", "choices": ["a", "b"], "answer": 1},
        Question("Q", None, "1"),
        ["subject", "choices"],
    ),
    "hotpotqa": (
        {"_id": "5a", "question": "Q", "answer": "yes", "supporting_facts": [["T", 0]], "level": "hard"},
        Question("Q", "5a", "yes"),
        ["supporting_facts", "level"],
    ),
    "triviaqa": ({"question_id": "tc_1", "question": "Q", "answer": {"value": "A"}}, Question("Q", "tc_1"), []),
    "nq-open": ({"question": "Q", "answer": ["A", "B"]}, Question("Q", None, "A"), []),
    "simpleqa": ({"metadata": "{}", "problem": "Q", "answer": "A"}, Question("Q", None, "A"), ["metadata"]),
    "humaneval": (
        {"task_id": "HumanEval/0", "prompt": "Q", "canonical_solution": "A", "test": "x", "entry_point": "f"},
        Question("Q", "HumanEval/0", "A"),
        ["test", "entry_point"],
    ),
    "bbh": ({"input": "Q", "target": "A"}, Question("Q", None, "A"), []),
    "truthfulqa": (
        {"Type": "x", "Question": "Q", "Best Answer": "A", "Correct Answers": "A; B", "Incorrect Answers": "C"},
        Question("Q", None, "A"),
        ["Type", "Incorrect Answers", "Correct Answers"],
    ),
    "boolq": ({"question": "Q", "answer": True, "passage": "x"}, Question("Q", None, "true"), ["passage"]),
    "alpaca": ({"instruction": "Q", "input": "x", "output": "A"}, Question("Q", None, "A"), ["input"]),
    "arc": ({"id": "M_1", "question": "Q", "answerKey": "C", "choices": {}}, Question("Q", "M_1", "C"), ["choices"]),
    "two": ({"q": "Q", "Final answer": "A", "final_answer": "B"}, Question("Q", None, "A"), ["final_answer"]),
}


def not_used(said: list[str]) -> list[str]:
    return [
        name for text in said if "not used: '" in text for name in re.findall(r"'([^']*)'", text.split("not used: ")[1])
    ]


@pytest.mark.parametrize("dataset", DATASETS)
async def test_the_fields_of_public_data_sets(write, read, dataset):
    record, question, unused = DATASETS[dataset]
    reading = await read(write(3 * (json.dumps(record) + "\n")))
    assert reading.questions == [question] * 3
    assert not_used(reading.remarks) == unused
    assert len(reading.remarks) == bool(unused) + (dataset in {"triviaqa", "nq-open"})


LINES = [
    {"question": "a", "answer": 5, "level": 1, "extra\x1b[2J\u202e": 1},
    {"question": "b", "answer": {"value": "x"}, "target": "y"},
    {"question": "c", "answer": ["x", "y"], "level": 2},
    {"question": "d", "answer": [{"x": 1}]},
    {"question": "e", "answer": {"value": "z"}, "target": "y"},
    {"question": "f", "answer": "x", "target": "y", "prompt": None},
]
SAID = [
    r"in: not used: 'level', 'extra\x1b[2J\u202e', 'target'",
    "in:2: the reference 'answer' is an object, neither text nor a number: not used (in 2 records)",
    "in:3: the reference 'answer' holds several answers: the first is the reference, the others are not used",
    "in:4: the reference 'answer' is an array with an object in it, neither text nor a number: not used",
]


def uncounted(said: list[str]) -> list[str]:
    return [re.sub(r" \(in .* records.*\)$", "", text) for text in said]


@pytest.mark.parametrize("how", ["jsonl", "gz", "pipe"])
async def test_each_thing_is_said_once(write, read, tmp_path, how):
    data = "".join(json.dumps(line) + "\n" for line in LINES).encode()
    path = str(tmp_path / "in.jsonl")
    if how == "pipe":
        os.mkfifo(path)
        writing = asyncio.create_task(asyncio.to_thread(Path(path).write_bytes, data))
    else:
        path = write(gzip.compress(data) if how == "gz" else data)
        writing = None
    reading = await read(path)
    if writing:
        await writing
    assert [question.reference for question in reading.questions] == ["5", "y", "x", None, "y", "x"]
    said = [text.replace(path, "in") for text in reading.remarks]
    if how == "pipe":  # its end may come after what was said of it: then the count follows by itself
        assert list(dict.fromkeys(uncounted(said))) == uncounted(SAID)
    else:
        assert said == SAID
    assert all(text.isprintable() for text in reading.remarks)


async def test_a_table_says_the_same(write, read):
    path = write('ID,Question,"Final answer",answer,Level,\n1,"a\nb",x,y,3,\n2,c,,y,3,\n', "in.csv")
    reading = await read(path)
    assert reading.questions == [Question("a\nb", "1", "x"), Question("c", "2", "y")]
    assert [text.replace(path, "in") for text in reading.remarks] == ["in: not used: 'Level', '', 'answer'"]


async def test_what_comes_later_is_said_then_and_the_count_at_the_end(write, read):
    record = json.dumps({"q": "a", "answer": {}}) + "\n"
    path = write(record * 25 + '{"q": "a", "new": 1}\n' + record * 25)
    reading = await read(path, size=20)
    remark = f"{path}:1: the reference 'answer' is an object, neither text nor a number: not used"
    assert reading.remarks == [
        f"{remark} (in 20 records so far)",
        f"{path}: not used: 'new'",
        f"{remark} (in 50 records)",
    ]


async def test_remarks_are_bounded(write, read):
    lines = (json.dumps({"q": "a", f"field {n} {'x' * 500}": n, f"Answer{'_' * n}": {}}) for n in range(500))
    reading = await read(write("\n".join(lines)), size=50)
    assert len(reading.remarks) < 100
    assert max(map(len, reading.remarks)) < 80 * 60
    assert any(f"over {remarks.MOST_NAMED} fields" in text for text in reading.remarks)


@pytest.mark.parametrize("key", ["answer", "target"])
async def test_the_description_names_what_is_used(write, read, key):
    path = write(json.dumps({"q": "a", "id": 1, "answer": {}, key: "b"}) + "\n")
    expected = f"{path}: question from 'q', id from 'id', reference from '{key}'"
    assert (await read(path)).description == expected
    path = write('{"q": "a", "answer": {"b": 1}}\n')
    assert (await read(path)).description == f"{path}: question from 'q'"


async def test_a_run_says_it_too(write):
    said: list[Notice] = []
    config = Config(qa={"coordinator": {"data_file": write('{"q": "a", "answer": {}, "level": 1}\n' * 3)}})
    reading = Feed(config, MemoryQueue(), lambda event: said.append(event) if isinstance(event, Notice) else None)
    await reading.run()
    assert [notice.level for notice in said] == ["info", "info", "warning"]
    assert "not used: 'level'" in said[1].text
    assert "(in 3 records)" in said[2].text


def test_the_page_states_the_limit():
    assert f"at most {remarks.MOST_NAMED} unused fields" in PAGE


def test_no_name_stands_for_two_roles():
    known = [folded(name) for name in (*names.QUESTION, *names.ID, *names.REFERENCE)]
    assert len(known) == len(set(known))


NAMES = st.sampled_from(
    [
        "q",
        "Question",
        "prompt",
        "id",
        "Task ID",
        "qid",
        "answer",
        "Final answer",
        "answers",
        "Target",
        "label",
        "note",
        "level",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from([2.5, "", "x", "y"])
VALUES = SCALARS | st.lists(SCALARS | st.just({"a": 1}), max_size=3) | st.just({}) | st.just({"a": "b"})


def parsed(data: bytes, form) -> tuple[list[Question | Problem], list[str]]:
    parser = Parser("in", form)
    outcomes = [outcome for _, outcome in (*parser.feed(data), *parser.finish())]
    return outcomes, [remark.text for remark in parser.remarks.new_remarks(final=True)]


@settings(deadline=None)
@given(st.lists(st.dictionaries(NAMES, VALUES, min_size=1), min_size=1, max_size=4))
def test_no_field_is_lost_without_a_word(records):
    for record in records:
        record["question"] = "asked"
    outcomes, said = parsed("".join(json.dumps(record) + "\n" for record in records).encode(), "jsonl")
    told = " ".join(said)
    for record, outcome in zip(records, outcomes, strict=True):
        if isinstance(outcome, Problem):
            continue
        given_ = [outcome.text, outcome.id, outcome.reference]
        for name, value in record.items():
            if value is None or value in ("", []) or repr(name) in told:
                continue
            texts = {json.dumps(item) if not isinstance(item, str) else item for item in _items(value)} - {"null", ""}
            assert len(texts) == 1, (name, value, said)
            assert texts & set(given_), (name, value, outcome, said)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["x", "", "y"]), st.sampled_from(["x", "", "y"]), st.just("z")), min_size=1))
def test_no_column_is_lost_without_a_word(rows):
    out = io.StringIO(newline="")
    csv.writer(out).writerows([("question", "Final answer", "answer", "note"), *(("asked", *row) for row in rows)])
    outcomes, said = parsed(out.getvalue().encode(), "table")
    told = " ".join(said)
    assert "'note'" in told
    for (final, answer, _), outcome in zip(rows, outcomes, strict=True):
        assert outcome.reference == (final or answer or None)
        assert not (final and answer) or "'answer'" in told


def _items(value) -> list:
    return value if isinstance(value, list) else [value]


def test_an_error_in_a_record_is_a_problem_and_no_remark():
    outcomes, said = parsed(b'{"q": 5, "answer": {}}\n{"q": "a"}\n', "jsonl")
    assert isinstance(outcomes[0], Problem)
    assert said == []
    assert issubclass(RecordError, ValueError)
