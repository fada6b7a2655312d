"""Files that are no queue, not whole, not ours to write, or somebody else's."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from unit.queue.writer import in_writer

from streaming_queue.errors import QueueError
from streaming_queue.messages import Question
from streaming_queue.queue import sqlite_schema
from streaming_queue.queue.sqlite import SQLiteQueue


@pytest.fixture
def path(tmp_path):
    return tmp_path / "queue.db"


def made(path, count=200):
    async def make():
        queue = await SQLiteQueue.open(path)
        await queue.put([Question(f"{number} " + "x" * 200, f"q{number}") for number in range(count)])
        await queue.close()

    asyncio.run(make())


def ready(path):
    """How many questions are ready in it."""

    async def look():
        queue = await SQLiteQueue.open(path)
        counts = await queue.counts()
        await queue.close()
        return counts.ready

    return asyncio.run(look())


def refused(path, match):
    """It is refused by name, with a remedy, and the lock is free again."""
    for _ in range(2):
        with pytest.raises(QueueError, match=match) as caught:
            ready(path)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"not a database\n", b"SQLite format 3\0", b"x" * 5000])
def test_not_a_database(path, content):
    path.write_bytes(content)
    refused(path, r"damaged or no queue database.*restore it from a copy")
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_queue(path):
    path.touch()
    made(path)


def test_a_truncated_database(path):
    made(path)
    os.truncate(path, path.stat().st_size // 2)
    refused(path, r"truncated: \d+ of \d+ bytes.*restore it from a copy")


def test_flipped_bytes_are_found_after_an_unclean_stop(path):
    made(path)
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(range(256)) * 32)
    path.with_name("queue.db.lock").write_bytes(b'{"pid": 1}\n')
    refused(path, r"queue\.db is damaged.*restore it from a copy")


def test_the_check_after_an_unclean_stop_is_bounded(path, monkeypatch):
    made(path, 20_000)
    with closing(sqlite3.connect(path)) as database:
        assert sqlite_schema.quick_check(path, database)
        monkeypatch.setattr(sqlite_schema, "QUICK_CHECK_S", 0.05)
        database.set_progress_handler(lambda: time.sleep(0.02), 1000)  # now the whole check takes many seconds
        assert not sqlite_schema.quick_check(path, database)
    sqlite_schema.connect(path, unclean=True).close()


def test_damage_found_while_working_closes_the_queue(path):
    made(path)

    async def work():
        queue = await SQLiteQueue.open(path)
        await asyncio.to_thread(overwrite)
        await in_writer(queue, lambda store: store.db.execute("PRAGMA shrink_memory"))
        with pytest.raises(QueueError, match="damaged"):
            await queue.lease(10)
        with pytest.raises(QueueError, match="closed itself"):
            await queue.lease(10)
        await queue.close()

    def overwrite():
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(b"\xff" * (path.stat().st_size - 4096))

    asyncio.run(work())


def test_a_database_of_another_release(path):
    made(path, 1)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version=7")
    refused(path, r"another release \(schema 7, this one reads up to 2\)")


def test_a_database_of_another_program(path):
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE theirs(x)")
    before = path.read_bytes()
    refused(path, "another program; name another file")
    assert path.read_bytes() == before


def test_a_folder_is_no_file(path):
    path.mkdir()
    refused(path, "cannot open it: Is a directory")


def test_a_missing_folder(tmp_path):
    refused(tmp_path / "missing" / "queue.db", "the folder must exist and be writable")


@pytest.fixture
def shared_path():
    """A path in a folder that any user may enter, unlike pytest's own for root."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder) / "queue.db"
        Path(folder).chmod(0o777)


@contextmanager
def without_rights():
    """As an ordinary user: for root no folder is read-only."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_read_only_folder(shared_path):
    shared_path.parent.chmod(0o555)
    with without_rights():
        refused(shared_path, r"cannot make its lock file.*the folder must exist and be writable")


def test_a_read_only_file(shared_path):
    made(shared_path, 1)
    shared_path.chmod(0o444)
    shared_path.with_name("queue.db.lock").unlink()
    with without_rights():
        refused(shared_path, "writable by this user")


OPEN = """
import asyncio, sys
from streaming_queue.queue import sqlite_schema
from streaming_queue.queue.sqlite import SQLiteQueue
async def main():
    queue = await SQLiteQueue.open(sys.argv[1])
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


def test_a_second_process_is_refused_by_the_pid_of_the_first(path):
    owner = subprocess.Popen([sys.executable, "-c", OPEN, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert owner.stdout.readline() == b"open\n"
        refused(path, rf"in use by process {owner.pid}: stop that process")
        link = path.with_name("link.db")
        link.symlink_to(path)
        with pytest.raises(QueueError, match="symbolic link"):  # so that it is no way around the lock
            ready(link)
    finally:
        owner.kill()
        owner.communicate()
    assert ready(path) == 0


FULL_FILE = """
import asyncio, resource, sys
from streaming_queue.errors import QueueClosedError, QueueError
from streaming_queue.messages import Question
from streaming_queue.queue import sqlite_schema
from streaming_queue.queue.sqlite import SQLiteQueue
async def main():
    queue = await SQLiteQueue.open(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    stored = 0
    try:
        while True:
            stored += (await queue.put([Question("x" * 500, f"q{stored + n}") for n in range(20)])).added
    except QueueError as error:
        print(stored, type(error).__name__, "SQLITE_IOERR" in str(error))
    try:
        await queue.counts()
    except QueueClosedError:
        print("closed")
    await queue.close()
asyncio.run(main())
"""


def test_a_write_that_fails_is_fatal_and_loses_nothing(path):
    # A limit on the size of files makes the kernel refuse a write as a failing disk does: EFBIG, not ENOSPC.
    command = [sys.executable, "-c", FULL_FILE, path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    stored, kind, told, closed = done.stdout.split()
    assert (kind, told, closed) == ("QueueError", "True", "closed")
    assert ready(path) == int(stored) > 0
