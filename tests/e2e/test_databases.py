"""The databases that the service looks after: all of /api/v1/databases."""

import os
import re

import pytest

import dbfile
from server import BACKUP, DATABASES

ENTRY = ["name", "path", "exists", "size", "last_modified"]
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000000")


def add(server, name, path=None):
    body = {"name": name} if path is None else {"name": name, "path": str(path)}
    return server.post(DATABASES, body)


def names(server):
    return [entry["name"] for entry in server.get(DATABASES).json()["databases"]]


@pytest.fixture
def rooted(servers, base):
    """A server that may register what lies below base/srv."""
    root = base / "srv"
    root.mkdir()
    server = servers(args=["--database-root", str(root)])
    server.prepare(dbfile.make(base / "x.db"))
    server.start()
    server.root = root
    return server


def test_list_is_sorted_and_says_what_is_there(server):
    for name in ("zebra", "alpha", "Beta", "_1"):
        assert add(server, name).status == 201
    body = server.get(DATABASES).json()
    assert list(body) == ["databases"]
    found = [entry["name"] for entry in body["databases"]]
    assert found == sorted(["zebra", "alpha", "Beta", "_1", "default"])
    for entry in body["databases"]:
        assert list(entry) == ENTRY
        live = server.live(entry["name"])
        assert entry["path"] == str(live) and entry["exists"] is True
        assert entry["size"] == live.stat().st_size
        assert STAMP.fullmatch(entry["last_modified"])


def test_created_database_is_empty_and_valid(server):
    response = add(server, "fresh")
    assert response.status == 201
    assert response.header("Location") == DATABASES + "/fresh"
    body = response.json()
    assert list(body) == ENTRY and body["exists"] is True
    assert dbfile.integrity(server.live("fresh")) == "ok"
    assert dbfile.query(server.live("fresh"), "SELECT * FROM sqlite_master") == []
    assert server.get(DATABASES + "/fresh").json() == body
    assert server.create("fresh")["database"] == "fresh"


def test_existing_file_is_taken_as_it_is(server, base):
    made = dbfile.make(base / "y.db", rows=33)
    content = dbfile.file_digest(made)
    live = server.prepare(made, "there")
    assert add(server, "there").status in (201, 409)
    assert dbfile.file_digest(live) == content
    assert "there" in names(server)


def test_taken_name_is_a_conflict(server):
    assert add(server, "one").status == 201
    response = add(server, "one")
    assert (response.status, response.error) == (409, "CONFLICT")


def test_registered_database_lies_below_a_root(rooted, base):
    live = dbfile.make(rooted.root / "deep" / "own.db", rows=10)
    response = add(rooted, "own", live)
    assert response.status == 201 and response.json()["path"] == str(live)
    name = rooted.create("own")["filename"]
    dbfile.execute(live, "DELETE FROM item")
    rooted.restore(name, "own")
    assert dbfile.query(live, "SELECT count(*) FROM item") == [(10,)]
    assert rooted.backup_path(name, "own").exists()
    rooted.stop()
    rooted.start()
    assert "own" in names(rooted)
    assert rooted.backups("own")[-1] == name


def test_registering_a_missing_file_makes_an_empty_one(rooted):
    path = rooted.root / "new.db"
    assert add(rooted, "new", path).status == 201
    assert dbfile.integrity(path) == "ok"


def test_one_file_has_one_name(rooted):
    live = dbfile.make(rooted.root / "own.db")
    assert add(rooted, "own", live).status == 201
    assert add(rooted, "other", live).status == 409
    twisted = rooted.root / "sub" / ".." / "own.db"
    assert add(rooted, "third", twisted).status in (409, 422)


def test_paths_outside_the_roots_are_refused(rooted, base):
    outside = dbfile.make(base / "outside.db")
    (rooted.root / "link.db").symlink_to(outside)
    (rooted.root / "folder").symlink_to(base)
    (rooted.root / "sub").mkdir()
    for path in [
        outside,
        rooted.root / ".." / "outside.db",
        rooted.root / "link.db",
        rooted.root / "folder" / "outside.db",
        str(rooted.root) + "x/a.db",
        rooted.root,
        rooted.root / "sub",
        "own.db",
        "/dev/null",
        rooted.live(),
        rooted.data / "holdfast.db",
    ]:
        response = add(rooted, "x", path)
        assert response.status in (409, 422), (path, response)
    assert names(rooted) == ["default"]
    assert dbfile.integrity(outside) == "ok"


def test_no_root_means_no_paths(server, base):
    response = add(server, "x", dbfile.make(base / "own.db"))
    assert (response.status, response.error) == (422, "VALIDATION_FAILED")


def test_current_and_switch(server):
    add(server, "second")
    body = server.get(DATABASES + "/current").json()
    assert list(body) == ["current", "info"] and body["current"] == "default"
    assert body["info"] == server.get(DATABASES + "/default").json()
    response = server.patch(DATABASES + "/current", {"name": "second"})
    assert response.status == 200
    body = response.json()
    assert list(body) == ["success", "message", "database"]
    assert body["success"] is True and body["database"] == "second"
    assert server.create()["database"] == "second"
    server.stop()
    server.start()
    assert server.get(DATABASES + "/current").json()["current"] == "second"
    assert server.delete(DATABASES + "/second").status == 409
    assert server.delete(DATABASES + "/default").status == 409


def test_managed_database_gets_a_last_backup_before_it_goes(server):
    add(server, "old")
    live = server.live("old")
    dbfile.execute(live, "CREATE TABLE t(x)", "INSERT INTO t VALUES(7)")
    (live.parent / "notes.txt").write_text("mine")
    first = server.create("old")["filename"]
    response = server.delete(DATABASES + "/old")
    assert response.status == 204 and response.body == b""
    assert os.listdir(live.parent) == ["notes.txt"]
    kept = sorted(p.name for p in server.folder("old").glob("*.db"))
    assert kept[0] == first and len(kept) == 2
    last = server.backup_path(kept[1], "old")
    dbfile.assert_backup_ok(last)
    assert dbfile.query(last, "SELECT x FROM t", True) == [(7,)]
    assert server.get(DATABASES + "/old").status == 404


def test_registered_file_is_never_touched(rooted):
    live = dbfile.make(rooted.root / "own.db")
    before = dbfile.tree(rooted.root)
    add(rooted, "own", live)
    assert rooted.delete(DATABASES + "/own").status == 204
    assert dbfile.tree(rooted.root) == before
    assert "own" not in names(rooted)


def test_database_in_use_is_not_deleted(server, shells):
    add(server, "busy")
    application = shells(server.live("busy"))
    application.sql("CREATE TABLE t(x)")
    application.sql("BEGIN IMMEDIATE")
    response = server.delete(DATABASES + "/busy")
    assert (response.status, response.error) == (409, "CONFLICT"), response
    application.sql("COMMIT")
    application.close()
    assert server.delete(DATABASES + "/busy").status == 204


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_database_held_open_by_an_idle_application_is_not_deleted(server, shells, mode):
    add(server, "idle")
    application = shells(server.live("idle"))
    application.sql(f"PRAGMA journal_mode={mode}")
    application.sql("CREATE TABLE t(x)")
    response = server.delete(DATABASES + "/idle")
    assert (response.status, response.error) == (409, "CONFLICT"), response
    application.sql("INSERT INTO t VALUES(1)")


def test_rich_list_pages_through_all(server):
    made = [server.create()["filename"] for _ in range(7)]
    path = DATABASES + "/default/backups"
    seen, before = [], ""
    while True:
        page = server.get(f"{path}?limit=3{before}").json()["backups"]
        if not page:
            break
        assert len(page) <= 3
        seen += [entry["filename"] for entry in page]
        before = "&before=" + seen[-1]
    assert seen == made[::-1]
    assert server.get(path).json()["backups"][0] == server.details(made[-1])


def test_unknown_database_is_404_everywhere(server):
    for method, path in [
        ("GET", DATABASES + "/none"),
        ("DELETE", DATABASES + "/none"),
        ("GET", DATABASES + "/none/backups"),
        ("GET", BACKUP + "?database=none"),
        ("POST", BACKUP + "?database=none"),
    ]:
        response = server.request(method, path)
        assert response.status == 404, (method, path)
        details = response.json()["details"]
        assert details == {"resource_type": "database", "identifier": "none"}
