"""The tables of the database, and the way from older ones."""

from __future__ import annotations

import re
import sqlite3

SCHEMA_VERSION = 2
APPLICATION_ID = 0x53545131

SCHEMA = """
CREATE TABLE question(
    seq INTEGER PRIMARY KEY,        -- never given twice, not even after a purge
    qid TEXT NOT NULL UNIQUE,
    priority INTEGER NOT NULL DEFAULT 0,
    state TEXT NOT NULL DEFAULT 'ready' CHECK(state IN ('ready', 'delayed', 'leased', 'done', 'dead')),
    attempts INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    sent INTEGER NOT NULL DEFAULT 0,  -- it was sent under an earlier lease
    fence INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL,       -- since when, or from when on, it may be leased; epoch seconds
    delay_s REAL,                   -- what was asked for while delayed: the wall clock may jump
    leased_at REAL,                 -- for people; a lease's clock is the process's own
    number INTEGER,                 -- of its newest record: its end, or the replay of its dead letter
    settled_at REAL,                -- time of that record
    failure TEXT,                   -- JSON, of a dead letter
    supersedes INTEGER              -- the number of the record before
){strict};
CREATE INDEX question_ready ON question(priority DESC, seq) WHERE state = 'ready';
CREATE INDEX question_delayed ON question(seq) WHERE state = 'delayed';
CREATE INDEX question_leased ON question(seq) WHERE state = 'leased';
CREATE UNIQUE INDEX question_number ON question(number) WHERE number IS NOT NULL;
CREATE UNIQUE INDEX question_dead ON question(number) WHERE state = 'dead';

CREATE TABLE body(                  -- apart, so that a change of state does not write the text again
    seq INTEGER PRIMARY KEY REFERENCES question(seq) ON DELETE CASCADE,
    text TEXT NOT NULL,
    reference TEXT
){strict};

CREATE TABLE result(
    seq INTEGER PRIMARY KEY REFERENCES question(seq),  -- one answer a question, by key
    attempt INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    committed_at REAL NOT NULL,
    body TEXT NOT NULL,             -- JSON
    answer TEXT GENERATED ALWAYS AS (json_extract(body, '$.answer')) VIRTUAL,
    worker TEXT GENERATED ALWAYS AS (json_extract(body, '$.worker')) VIRTUAL
){strict};

CREATE TABLE attempt(               -- append-only; `result` holds the attempt that won
    id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL REFERENCES question(seq) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    fence INTEGER NOT NULL,
    worker TEXT,
    protocol TEXT,
    started REAL,
    ended REAL NOT NULL,
    outcome TEXT NOT NULL CHECK(outcome IN ('late', 'retried', 'released', 'lost', 'buried')),
    failure TEXT                    -- JSON
){strict};
CREATE INDEX attempt_seq ON attempt(seq);

CREATE TABLE meta(
    only INTEGER PRIMARY KEY CHECK(only = 1),
    ready INTEGER NOT NULL DEFAULT 0,   -- delayed ones included
    leased INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    dead INTEGER NOT NULL DEFAULT 0,
    last_seq INTEGER NOT NULL DEFAULT 0,
    last_number INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0,
    re_executions INTEGER NOT NULL DEFAULT 0,
    late_duplicates_rejected INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    bookmark TEXT,                  -- JSON
    leases_taken_ahead INTEGER NOT NULL DEFAULT 0,
    in_flight TEXT NOT NULL DEFAULT '[]',  -- JSON: the seqs that were sent under their present lease
    log TEXT NOT NULL DEFAULT '',   -- the name of the log in cursors
    sealed INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0
){strict};
INSERT INTO meta(only, log) VALUES (1, lower(hex(randomblob(4))));

CREATE TABLE purged(                -- the records of deleted questions
    number INTEGER PRIMARY KEY,
    qid TEXT NOT NULL,
    supersedes INTEGER NOT NULL,
    settled_at REAL NOT NULL
){strict};

CREATE TABLE source_check(          -- checks of the source's lines (`SourceChecks`)
    lines INTEGER PRIMARY KEY,
    checks BLOB NOT NULL
){strict};
"""
# New columns and tables go to the end: so a first page of a new database also fits an old one (`salvage`).

MIGRATION = """
ALTER TABLE question ADD COLUMN supersedes INTEGER;
ALTER TABLE meta ADD COLUMN leases_taken_ahead INTEGER NOT NULL DEFAULT 0;
ALTER TABLE meta ADD COLUMN in_flight TEXT NOT NULL DEFAULT '[]';
ALTER TABLE meta ADD COLUMN log TEXT NOT NULL DEFAULT '';
ALTER TABLE meta ADD COLUMN sealed INTEGER NOT NULL DEFAULT 0;
ALTER TABLE meta ADD COLUMN cancelled INTEGER NOT NULL DEFAULT 0;
UPDATE meta SET log = lower(hex(randomblob(4))),
    in_flight = (SELECT json_group_array(seq) FROM question WHERE state = 'leased');
CREATE TABLE purged(
    number INTEGER PRIMARY KEY,
    qid TEXT NOT NULL,
    supersedes INTEGER NOT NULL,
    settled_at REAL NOT NULL
){strict};
CREATE TABLE source_check(
    lines INTEGER PRIMARY KEY,
    checks BLOB NOT NULL
){strict};
"""
"""From version 1. All leases count as sent, because version 1 did not record which were."""

VERSION_1_VIEWS = """
CREATE TEMP TABLE purged(number INTEGER PRIMARY KEY, qid TEXT, supersedes INTEGER, settled_at REAL);
CREATE TEMP VIEW question AS SELECT *, NULL AS supersedes FROM main.question;
CREATE TEMP VIEW meta AS SELECT *, 0 AS leases_taken_ahead, '[]' AS in_flight, '' AS log, 0 AS sealed, 0 AS cancelled
FROM main.meta;
"""
"""Show a database of version 1 to a reader as one of version 2, whose rows have no cursors."""


def plain(sql: str) -> str:
    """`sql` without comments, because the first page must hold the schema (`salvage`), and for this SQLite."""
    strict = " STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
    return re.sub(r" +--.*", "", sql).replace("{strict}", strict)
