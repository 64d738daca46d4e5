"""A data directory of the reference is served as it is.

databases/NAME/app.db and backups/NAME/app_*.db are there already, with other
files beside them.  Listing, downloading and restoring work; nothing that was
there changes, and nothing is added beneath databases/ and backups/, until
someone asks for it.
"""

import shutil

import pytest

import dbfile
from server import BACKUP, DATABASES, wait_for

OLD = ["app_20240229_235959.db", "app_20250101_000000.db", "app_20260413_142530.db"]
STRAY = {
    "backups/default/notes.txt": b"keep me\n",
    "backups/default/app_20260230_000000.db": b"no such date",
    "backups/default/app_20260413_142530.db.tmp": b"half a copy",
    "backups/default/backup.tar.gz": b"\x1f\x8b",
    "backups/README": b"",
    "databases/default/app.db.bak": b"SQLite format 3\0",
    "databases/default/settings.json": b"{}",
    "databases/default/chroma/index.bin": b"\0" * 100,
    "databases/empty/.keep": b"",
    "graph.gexf": b"<gexf/>",
}


@pytest.fixture
def reference(servers, base):
    """Such a directory, and what each file of it held."""
    server = servers()
    for name, rows in (("default", 300), ("other", 20)):
        server.prepare(dbfile.make(base / "x.db", rows=rows), name)
    for i, name in enumerate(OLD):
        made = dbfile.make(base / "y.db", rows=50 + i, journal="delete")
        server.folder().mkdir(parents=True, exist_ok=True)
        shutil.copy(made, server.backup_path(name))
    for path, content in STRAY.items():
        (server.data / path).parent.mkdir(parents=True, exist_ok=True)
        (server.data / path).write_bytes(content)
        (server.data / path).chmod(0o644)
    server.data.chmod(0o755)
    return server


def parts(server):
    """The two folders that are the user's."""
    return {name: dbfile.tree(server.data / name) for name in ("databases", "backups")}


def test_nothing_changes_before_someone_asks(reference):
    before = parts(reference)
    reference.start()
    assert reference.backups() == OLD[::-1]
    reference.get(DATABASES)
    reference.get(DATABASES + "/default/backups")
    reference.details(OLD[0])
    reference.download(OLD[1])
    wait_for(lambda: reference.details(OLD[2])["sha256"], "the hash of an old backup")
    assert parts(reference) == before
    reference.stop()
    assert parts(reference) == before
    reference.start()
    assert parts(reference) == before
    for path, content in STRAY.items():
        assert (reference.data / path).read_bytes() == content


def test_databases_of_the_reference_are_known(reference):
    reference.start()
    entries = reference.get(DATABASES).json()["databases"]
    assert [e["name"] for e in entries if e["exists"]] == ["default", "other"]
    assert reference.get(BACKUP + "?database=other").json() == {"backups": []}


def test_old_backups_are_adopted(reference):
    reference.start()
    for name in OLD:
        details = reference.details(name)
        assert (details["origin"], details["state"]) == ("adopted", "good")
        assert details["size"] == reference.backup_path(name).stat().st_size
    reference.backups()
    path = reference.backup_path(OLD[0])
    wait_for(
        lambda: reference.details(OLD[0])["sha256"] == dbfile.file_digest(path),
        "the hash of an old backup",
    )
    assert reference.download(OLD[0]) == path.read_bytes()


def test_old_backup_is_restored_and_undone(reference):
    live = reference.live()
    before = dbfile.content_digest(live)
    reference.start()
    safety = reference.restore(OLD[1])
    wanted = dbfile.content_digest(reference.backup_path(OLD[1]), True)
    assert dbfile.content_digest(live) == wanted
    reference.restore(safety)
    assert dbfile.content_digest(live) == before


def test_new_backups_stand_beside_the_old(reference):
    reference.start()
    name = reference.create()["filename"]
    assert reference.backups() == [name, *OLD[::-1]]
    reference.remove(OLD[0])
    assert reference.backups() == [name, *OLD[:0:-1]]
    for path, content in STRAY.items():
        assert (reference.data / path).read_bytes() == content


def test_old_files_that_are_no_backups_are_not_listed(reference):
    wrong = {
        "app_20260101_000001.db": b"",
        "app_20260101_000002.db": b"SQLite format 3\0" + b"\0" * 84,
        "app_20260101_000003.db": b"hello" * 1000,
        "app_20260101_000004.db": reference.backup_path(OLD[0]).read_bytes()[:-100],
    }
    for name, content in wrong.items():
        reference.backup_path(name).write_bytes(content)
    reference.backup_path("app_20260101_000005.db").mkdir()
    reference.backup_path("app_20260101_000006.db").symlink_to("/etc/passwd")
    before = parts(reference)
    reference.start()
    assert reference.backups() == OLD[::-1]
    for name in [*wrong, "app_20260101_000005.db", "app_20260101_000006.db"]:
        assert reference.post(f"{BACKUP}/{name}/restore").status in (404, 422)
    assert parts(reference) == before
