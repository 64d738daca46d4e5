"""507 and read-only: disks that are full, would be, or may not be written.

Small filesystems in memory stand for full disks; that needs root.
"""

import os
import shutil

import pytest

import dbfile
from disk import MIB, must
from server import BACKUP, DATABASES


def small_disk(servers, mounts, base, size, rows=4000):
    """A server whose data directory has `size` bytes; the live file is outside."""
    root = base / "srv"
    live = dbfile.make(root / "app.db", rows=rows)
    server = servers(args=["--database-root", str(root)])
    mounts.tmpfs(server.data, size, mode="0755")
    server.start()
    body = {"name": "app", "path": str(live)}
    assert server.post(DATABASES, body).status == 201
    return server, live


def fill(folder, leave):
    """Fill a disk until only `leave` bytes are free; returns the filler."""
    info = os.statvfs(folder)
    filler = folder / "filler"
    size = info.f_bavail * info.f_frsize - leave
    with open(filler, "wb") as file:
        file.write(bytes(max(size, 0)))
    return filler


def assert_full(response):
    assert (response.status, response.error) == (507, "INSUFFICIENT_STORAGE"), response


def test_full_disk_refuses_a_create_and_leaves_nothing(servers, mounts, base):
    server, live = small_disk(servers, mounts, base, 16 * MIB)
    first = server.create("app")["filename"]
    for leave in (0, 4096, 64 << 10, 512 << 10, live.stat().st_size - 8192):
        filler = fill(server.data, leave)
        assert_full(server.post(BACKUP + "?database=app"))
        assert os.listdir(server.data / "tmp") == []
        assert server.backups("app") == [first]
        filler.unlink()
    dbfile.assert_backup_ok(server.backup_path(first, "app"))
    assert server.create("app")


def test_full_disk_refuses_a_restore_and_the_live_file_stays(
    servers, mounts, shells, base
):
    server, live = small_disk(servers, mounts, base, 16 * MIB)
    name = server.create("app")["filename"]
    application = shells(live)
    application.sql("UPDATE item SET text='changed'")
    filler = fill(server.data, 256 << 10)
    assert_full(server.post(f"{BACKUP}/{name}/restore?database=app"))
    assert application.value("SELECT count(DISTINCT text) FROM item") == 1
    assert application.value("PRAGMA integrity_check") == "ok"
    assert os.listdir(server.data / "tmp") == []
    assert server.backups("app") == [name]
    filler.unlink()
    assert server.restore(name, "app")
    assert application.value("SELECT count(DISTINCT text) FROM item") > 1


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_full_disk_of_the_live_database_refuses_a_restore(
    servers, mounts, shells, base, mode
):
    disk = mounts.tmpfs(base / "srv", 4 * MIB, mode="0755")
    made = dbfile.make(base / "x.db", rows=20000, journal=mode)
    server = servers(args=["--database-root", str(disk)])
    server.start()
    live = disk / "app.db"
    shutil.copy(dbfile.make(base / "small.db", rows=50, journal=mode), live)
    assert server.post(DATABASES, {"name": "app", "path": str(live)}).status == 201
    name = server.create("app")["filename"]
    big = "app_20200101_000000.db"
    shutil.copy(made, server.backup_path(big, "app"))
    application = shells(live)
    assert application.value("SELECT count(*) FROM item") == 50
    assert_full(server.post(f"{BACKUP}/{big}/restore?database=app"))
    assert application.value("SELECT count(*) FROM item") == 50
    application.sql("INSERT INTO item(text) VALUES('goes on')")
    assert application.value("PRAGMA integrity_check") == "ok"
    wal = live.with_name("app.db-wal")
    assert not wal.exists() or wal.stat().st_size <= MIB
    assert server.restore(name, "app")


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_read_only_mount_is_backed_up_or_said_why(servers, mounts, base, mode):
    root = base / "srv"
    live = dbfile.make(root / "app.db", journal=mode)
    server = servers(args=["--database-root", str(root)])
    server.start()
    assert server.post(DATABASES, {"name": "app", "path": str(live)}).status == 201
    name = server.create("app")["filename"]
    mounts.bind(root, root)
    must("mount", "-o", "remount,bind,ro", root)
    response = server.post(BACKUP + "?database=app")
    if mode == "delete":
        assert response.status == 200, response
    else:
        assert response.status in (200, 409), response
    response = server.post(f"{BACKUP}/{name}/restore?database=app")
    assert (response.status, response.error) == (409, "CONFLICT"), response


FAULTS = [
    "create.copy",
    "create.facts",
    "create.publish",
    "restore.copy",
    "restore.locked",
    "restore.publish",
    "restore.write",
    "restore.commit",
]


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
@pytest.mark.parametrize("name,status", [("EIO", 500), ("ENOSPC", 507)])
def test_failing_step_leaves_nothing_changed(servers, shells, base, name, status, mode):
    """Each named step fails once: an error of the contract, nothing left."""
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", rows=2000, journal=mode))
    server.start()
    first = server.create()["filename"]
    application = shells(live)
    application.sql("UPDATE item SET text='changed'")
    for step in FAULTS:
        tail = f"/{first}/restore" if step.startswith("restore") else ""
        listed = set(server.backups())
        server.set_fault(f"{step}:{name}")
        response = server.post(BACKUP + tail)
        server.set_fault("")
        assert response.status == status, (step, response)
        assert os.listdir(server.data / "tmp") == [], step
        assert application.value("SELECT count(DISTINCT text) FROM item") == 1, step
        assert application.value("PRAGMA integrity_check") == "ok", step
        for extra in set(server.backups()) - listed:
            assert step in ("restore.write", "restore.commit"), step
            dbfile.assert_backup_ok(server.backup_path(extra))
        application.sql("INSERT INTO item(text) VALUES('changed')")
    assert server.restore(first)
    assert application.value("SELECT count(DISTINCT text) FROM item") == 2000
