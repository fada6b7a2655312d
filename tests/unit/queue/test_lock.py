"""One owner a database, and the file systems on which a lock means nothing."""

from __future__ import annotations

import os
import stat

import orjson
import pytest

from streaming_queue.errors import QueueError
from streaming_queue.queue.lock import (
    Owner,
    OwnerLock,
    find_owner,
    is_left_behind,
    mount_of,
    refuse_network_file_system,
)

MOUNTINFO = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 27 0:40 / /home rw,relatime shared:5 master:2 - nfs4 server:/home rw,vers=4.2
31 30 254:1 / /home/me/local\040disk rw - xfs /dev/vdb rw
32 27 0:41 / /mnt rw - ext4 /dev/vdc rw
33 32 0:42 / /mnt rw - fuse.sshfs me@host:/ rw
a line cut sho
"""


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/var/q.db", ("/", "ext4")),
        ("/home/q.db", ("/home", "nfs4")),
        ("/home", ("/home", "nfs4")),
        ("/homely/q.db", ("/", "ext4")),
        ("/home/me/local disk/q.db", ("/home/me/local disk", "xfs")),
        ("/mnt/q.db", ("/mnt", "fuse.sshfs")),
    ],
)
def test_the_innermost_newest_mount_holds_a_path(path, mount):
    assert mount_of(path, MOUNTINFO) == mount


def test_without_mounts_nothing_is_known(tmp_path):
    assert mount_of("/x", "") is None
    refuse_network_file_system(tmp_path, mountinfo=tmp_path / "missing")


def test_a_network_file_system_is_refused(tmp_path):
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"1 1 0:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / {tmp_path} rw - nfs4 server:/ rw\n")
    with pytest.raises(QueueError, match=r"network file system \(nfs4\).*local disk"):
        refuse_network_file_system(tmp_path / "queue.db", mountinfo=mountinfo)
    refuse_network_file_system(tmp_path.parent / "queue.db", mountinfo=mountinfo)


def test_the_lock_names_its_owner_and_comes_back(tmp_path):
    database = tmp_path / "queue.db"
    first, second = OwnerLock(database), OwnerLock(database)
    first.acquire()
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o600
    assert orjson.loads(first.path.read_bytes()) == {"pid": os.getpid()}
    with pytest.raises(QueueError, match=rf"queue\.db is in use by process {os.getpid()}: stop"):
        second.acquire()
    first.release(clean=True)
    first.release(clean=True)
    assert first.path.read_bytes() == b""
    second.acquire()
    assert not second.left_behind
    second.release(clean=False)
    third = OwnerLock(database)
    third.acquire()
    assert third.left_behind
    third.release(clean=True)


def test_an_owner_that_has_not_written_its_pid_is_still_one(tmp_path):
    database = tmp_path / "queue.db"
    first = OwnerLock(database)
    first.acquire()
    first.path.write_bytes(b"")
    with pytest.raises(QueueError, match="another process"):
        OwnerLock(database).acquire()
    first.release(clean=True)


def test_a_lock_file_of_a_wider_mode_is_narrowed(tmp_path):
    path = tmp_path / "queue.db.lock"
    path.write_bytes(b"")
    path.chmod(0o666)
    lock = OwnerLock(tmp_path / "queue.db")
    lock.acquire()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lock.release(clean=True)


def test_an_owner_announces_its_control_to_its_user_only(tmp_path):
    database = tmp_path / "queue.db"
    assert find_owner(database) is None
    lock = OwnerLock(database)
    lock.acquire()
    assert find_owner(database) == Owner(os.getpid(), None)
    lock.announce({"address": "http://127.0.0.1:1", "token": "t" * 43})
    assert find_owner(database) == Owner(os.getpid(), {"address": "http://127.0.0.1:1", "token": "t" * 43})
    assert stat.S_IMODE(lock.path.stat().st_mode) == 0o600
    lock.announce(None)
    assert lock.path.read_bytes() == orjson.dumps({"pid": os.getpid()}) + b"\n"
    lock.release(clean=True)
    assert find_owner(database) is None
    with pytest.raises(QueueError, match="only the owner"):
        lock.announce({})


def test_a_line_longer_than_the_one_before_is_found_whole(tmp_path):
    """A reader comes between the writing and the cutting: what is left of the longer line says nothing."""
    lock = OwnerLock(tmp_path / "queue.db")
    lock.acquire()
    lock.path.write_bytes(b'{"pid":7}\ndress":"http://127.0.0.1:1"}}\n')
    assert find_owner(tmp_path / "queue.db") == Owner(7, None)
    lock.release(clean=True)


def test_a_lock_without_owner_and_without_release_is_left_behind(tmp_path):
    database = tmp_path / "queue.db"
    assert not is_left_behind(database)
    lock = OwnerLock(database)
    lock.acquire()
    assert not is_left_behind(database)
    lock.release(clean=True)
    assert not is_left_behind(database)
    lock.acquire()
    lock.release(clean=False)
    assert is_left_behind(database)
