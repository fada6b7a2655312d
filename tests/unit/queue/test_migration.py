"""A database of version 1: read as it is, and migrated when a run goes on."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from streaming_queue.errors import ConfigError, QueueError
from streaming_queue.messages import Counts
from streaming_queue.queue.inspection import inspect
from streaming_queue.queue.rows import RecordReader
from streaming_queue.queue.snapshot import Snapshot
from streaming_queue.queue.sqlite import SQLiteQueue

VERSION_1 = """
PRAGMA journal_mode=WAL;
BEGIN;
PRAGMA application_id=0x53545131;
CREATE TABLE question(
    seq INTEGER PRIMARY KEY,
    qid TEXT NOT NULL UNIQUE,
    priority INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'ready' CHECK(state IN ('ready', 'delayed', 'leased', 'done', 'dead')),
    attempts INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    sent INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL,
    delay_s REAL,
    leased_at REAL,
    number INTEGER,
    settled_at REAL,
    failure TEXT
);
CREATE INDEX question_ready ON question(priority DESC, seq) WHERE state = 'ready';
CREATE INDEX question_delayed ON question(seq) WHERE state = 'delayed';
CREATE INDEX question_leased ON question(seq) WHERE state = 'leased';
CREATE UNIQUE INDEX question_number ON question(number) WHERE number IS NOT NULL;
CREATE UNIQUE INDEX question_dead ON question(number) WHERE state = 'dead';

CREATE TABLE body(
    seq INTEGER PRIMARY KEY REFERENCES question(seq) ON DELETE CASCADE,
    text TEXT NOT NULL,
    reference TEXT
);

CREATE TABLE result(
    seq INTEGER PRIMARY KEY REFERENCES question(seq),
    attempt INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    committed_at REAL NOT NULL,
    body TEXT NOT NULL,
    answer TEXT GENERATED ALWAYS AS (json_extract(body, '$.answer')) VIRTUAL,
    worker TEXT GENERATED ALWAYS AS (json_extract(body, '$.worker')) VIRTUAL
);

CREATE TABLE attempt(
    id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL REFERENCES question(seq) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    worker TEXT,
    protocol TEXT,
    started REAL,
    ended REAL NOT NULL,
    outcome TEXT NOT NULL CHECK(outcome IN ('late', 'retried', 'released', 'lost', 'buried')),
    failure TEXT
);
CREATE INDEX attempt_seq ON attempt(seq);

CREATE TABLE meta(
    only INTEGER PRIMARY KEY CHECK(only = 1),
    ready INTEGER NOT NULL DEFAULT 0,
    leased INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    last_seq INTEGER NOT NULL DEFAULT 0,
    last_number INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0,
    re_executions INTEGER NOT NULL DEFAULT 0,
    late_duplicates_rejected INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    bookmark TEXT
);
INSERT INTO meta(only) VALUES (1);
PRAGMA user_version=1;
COMMIT;
"""

CONTENT = """
INSERT INTO question(seq, qid, state, fence, not_before, number, settled_at, attempts, failure) VALUES
    (1, 'answered', 'done', 1, 1.0, 1, 10.0, 1, NULL),
    (2, 'dead', 'dead', 1, 1.0, 3, 11.0, 1, '{"type": "RemoteError", "message": "no"}'),
    (3, 'leased', 'leased', 1, 1.0, NULL, NULL, 0, NULL),
    (4, 'replayed', 'ready', 1, 1.0, NULL, NULL, 0, NULL);
INSERT INTO body SELECT seq, 'text of ' || qid, NULL FROM question;
INSERT INTO result(seq, attempt, fence, committed_at, body)
    VALUES (1, 1, 1, 10.0, '{"answer": "42", "worker": "w", "protocol": "inproc", "response_time_s": 0.1}');
UPDATE meta SET ready=1, leased=1, done=1, dead=1, last_seq=4, last_number=3, revision=1, re_executions=5;
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "queue.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.executescript(VERSION_1)
        database.executescript(CONTENT)
    return path


def read(path, cursor=""):
    return [outcome for page in RecordReader(path, cursor).read() for outcome in page]


async def test_a_run_goes_on_from_version_1(path, result):
    queue = await SQLiteQueue.open(path)
    assert await queue.counts() == Counts(ready=2, done=1, dead=1)
    assert [(row.question.id, row.number, row.supersedes) for row in await queue.results()] == [
        ("answered", 1, None),
        ("dead", 3, None),
    ]
    leases = await queue.lease(2)
    assert [lease.id for lease in leases] == ["leased", "replayed"]
    for lease in leases:
        queue.sent(lease)
        await queue.commit(lease, result())
    await queue.replay()
    assert [(row.question.id, row.number, row.supersedes) for row in await queue.results(3)] == [
        ("leased", 4, None),
        ("replayed", 5, None),
        ("dead", 6, 3),
    ]
    stats = await queue.stats()
    assert (stats["re_executions"], stats["leases_taken_ahead"]) == (6, 0), "its leases may all have been sent"
    (cursor,) = {outcome.row()["cursor"] for outcome in await queue.results(5)}
    await queue.close()
    queue = await SQLiteQueue.open(path)
    assert await queue.number_of(cursor) == 6
    await queue.close()


def test_a_reader_changes_nothing_and_gives_no_cursors(path):
    before = path.read_bytes()
    assert inspect(path).counts == Counts(1, 1, 1, 1)
    rows = [outcome.row() for outcome in read(path)]
    assert [(row["question_id"], row["cursor"], row["supersedes"]) for row in rows] == [
        ("answered", None, None),
        ("dead", None, None),
    ]
    with pytest.raises(ConfigError):
        read(path, "0123abcd-1")
    assert path.read_bytes() == before


async def test_the_record_of_a_stopped_run_is_read(path):
    async with Snapshot.open(path) as record:
        assert (await record.stats())["re_executions"] == 5
        assert [outcome.question.id for outcome in await record.dead()] == ["dead"]


async def test_a_failed_migration_leaves_version_1(path):
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE purged(of_others)")
    with pytest.raises(QueueError, match="purged"):
        await SQLiteQueue.open(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (1,)
        assert len(database.execute("PRAGMA table_info(meta)").fetchall()) == 12


async def test_a_copy_of_the_older_version_is_kept(path):
    for _ in range(2):
        queue = await SQLiteQueue.open(path)
        await queue.replay()
        await queue.close()
        copy = path.with_name("queue.db.version-1")
        with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True)) as database:
            assert database.execute("PRAGMA user_version").fetchone() == (1,)
            assert database.execute("SELECT ready, leased, done, dead FROM meta").fetchone() == (1, 1, 1, 1)
    assert sorted(file.name for file in path.parent.iterdir()) == ["queue.db", "queue.db.lock", "queue.db.version-1"]
