"""After any death of ours the application can go on, also under another uid.

The server runs as root, the application as a user of its own.  The server is
killed at steps of create and restore, with the application open and closed:
-wal, -shm and -journal must belong to the application, which opens, reads and
writes.  A server under a third uid refuses with the line that mends it.
"""

import os
import shutil

import pytest

import dbfile
from server import BACKUP, BIN, DATABASES

APPLICATION = 65534
STRANGER = 65533
STEPS = {
    "create": ("create.copy", "create.publish"),
    "restore": (
        "restore.copy",
        "restore.locked",
        "restore.publish",
        "restore.write",
        "restore.commit",
    ),
}

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, to run processes under other uids"
)


def as_user(uid):
    return {"user": uid, "group": uid, "extra_groups": []}


@pytest.fixture
def folder(base):
    """A folder of the application's own."""
    path = base / "srv"
    path.mkdir(mode=0o750)
    os.chown(path, APPLICATION, APPLICATION)
    return path


def own_database(folder, base, mode, rows=3000):
    """A database that belongs to the application."""
    made = dbfile.make(base / "x.db", rows=rows, journal=mode)
    made.chmod(0o640)
    os.chown(made, APPLICATION, APPLICATION)
    return made.rename(folder / "app.db")


def program(base):
    """Our program where every user can reach it."""
    return shutil.copy(BIN, base / "holdfast")


def serve(servers, folder, **options):
    """A server that looks after the application's database as `app`."""
    server = servers(args=["--database-root", str(folder)], **options)
    server.start()
    body = {"name": "app", "path": str(folder / "app.db")}
    assert server.post(DATABASES, body).status == 201
    return server


def assert_owned(folder, live):
    """Whatever stands beside the database belongs to the application."""
    for name in os.listdir(folder):
        info = os.stat(folder / name)
        owner = (info.st_uid, info.st_gid)
        assert owner == (APPLICATION, APPLICATION), (name, owner)
        assert info.st_mode & 0o777 == live.st_mode & 0o777, name


def same_file(a, b):
    keys = ("st_ino", "st_uid", "st_gid", "st_mode")
    return [getattr(a, k) for k in keys] == [getattr(b, k) for k in keys]


CASES = [(operation, step) for operation, steps in STEPS.items() for step in steps]


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
@pytest.mark.parametrize("operation,step", CASES)
def test_application_goes_on_after_our_death(
    servers, shells, folder, base, operation, step, mode, is_open
):
    live = own_database(folder, base, mode)
    server = serve(servers, folder)
    name = server.create("app")["filename"]
    before = live.stat()
    application = shells(live, **as_user(APPLICATION))
    application.sql("UPDATE item SET text='changed' WHERE id%2=0")
    if not is_open:
        application.close()
    server.stop()
    server.start(env={"HOLDFAST_TEST_KILL": f"{step}:1"})
    tail = "" if operation == "create" else f"/{name}/restore"
    with pytest.raises(OSError):
        server.post(f"{BACKUP}{tail}?database=app")
    server.wait_killed()
    assert_owned(folder, before)
    if not is_open:
        application = shells(live, **as_user(APPLICATION))
    changed = "SELECT count(*) FROM item WHERE text='changed'"
    assert application.value(changed) in (0, 1500)
    application.sql("INSERT INTO item(text) VALUES('goes on')")
    assert application.value("PRAGMA integrity_check") == "ok"
    assert_owned(folder, before)
    assert same_file(before, live.stat())
    server.start()
    assert server.create("app")
    assert_owned(folder, before)


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_restore_keeps_inode_owner_and_mode(servers, shells, folder, base, mode):
    live = own_database(folder, base, mode)
    server = serve(servers, folder)
    before = live.stat()
    name = server.create("app")["filename"]
    application = shells(live, **as_user(APPLICATION))
    application.sql("DELETE FROM item WHERE id>9")
    safety = server.restore(name, "app")
    assert application.value("SELECT count(*) FROM item") == 3000
    application.sql("INSERT INTO item(text) VALUES('goes on')")
    application.close()
    server.restore(safety, "app")
    assert same_file(before, live.stat())
    assert_owned(folder, before)
    application = shells(live, **as_user(APPLICATION))
    assert application.value("SELECT count(*) FROM item") == 9


def test_missing_file_is_made_for_the_owner_of_its_folder(
    servers, shells, folder, base
):
    live = own_database(folder, base, "delete")
    server = serve(servers, folder)
    name = server.create("app")["filename"]
    live.unlink()
    server.restore(name, "app")
    assert_owned(folder, live.stat())
    application = shells(live, **as_user(APPLICATION))
    application.sql("INSERT INTO item(text) VALUES('goes on')")


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_server_under_the_applications_own_uid(servers, shells, folder, base, mode):
    live = own_database(folder, base, mode)
    server = servers(
        args=["--database-root", str(folder)],
        binary=program(base),
        **as_user(APPLICATION),
    )
    for path in (server.base, server.data):
        os.chown(path, APPLICATION, APPLICATION)
    server.start()
    body = {"name": "app", "path": str(live)}
    assert server.post(DATABASES, body).status == 201
    name = server.create("app")["filename"]
    application = shells(live, **as_user(APPLICATION))
    application.sql("DELETE FROM item")
    server.restore(name, "app")
    assert application.value("SELECT count(*) FROM item") == 3000
    assert server.backup_path(name, "app").stat().st_uid == APPLICATION


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_server_under_a_strangers_uid_refuses(servers, folder, base, mode):
    """It could read and write the file, but would leave files of its own."""
    live = own_database(folder, base, mode)
    folder.chmod(0o777)
    live.chmod(0o666)
    server = servers(
        args=["--database-root", str(folder)],
        binary=program(base),
        **as_user(STRANGER),
    )
    for path in (server.base, server.data):
        os.chown(path, STRANGER, STRANGER)
    server.start()
    body = {"name": "app", "path": str(live)}
    response = server.post(DATABASES, body)
    if response.status == 201:
        response = server.post(f"{BACKUP}?database=app")
    assert (response.status, response.error) == (409, "CONFLICT"), response
    message = response.json()["message"]
    assert "user" in message or "owner" in message or "uid" in message, message
    assert os.listdir(folder) == ["app.db"]
