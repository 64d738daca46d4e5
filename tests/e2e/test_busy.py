"""P6 and 503: what is locked, exclusive, growing or stopping.

Nothing of ours waits longer than it was told to, and where it gives up
nothing has changed: no backup, no temporary file, the live file as it was.
"""

import os
import threading
import time

import pytest

import dbfile
from server import BACKUP, wait_for


def start(servers, base, *args, mode="wal", rows=200, env=None):
    server = servers(args=args, env=env)
    server.prepare(dbfile.make(base / "x.db", rows=rows, journal=mode))
    return server.start()


def assert_busy(response, reason):
    assert (response.status, response.error) == (503, "BUSY"), response
    assert response.json()["details"]["reason"] == reason, response
    assert int(response.header("Retry-After")) >= 1


def listing(server):
    """Everything beneath the data directory but the live database."""
    return {
        path: facts
        for path, facts in dbfile.tree(server.data).items()
        if path.startswith(("backups", "tmp"))
    }


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_restore_gives_up_while_the_application_writes(servers, shells, base, mode):
    server = start(servers, base, "--busy-timeout", "1", mode=mode)
    name = server.create()["filename"]
    application = shells(server.live())
    application.sql("BEGIN IMMEDIATE")
    application.sql("INSERT INTO item(text) VALUES('mine')")
    before = listing(server)
    assert_busy(server.post(f"{BACKUP}/{name}/restore"), "locked")
    assert listing(server) == before
    application.sql("COMMIT")
    assert application.value("SELECT count(*) FROM item") == 201
    assert server.restore(name)
    assert application.value("SELECT count(*) FROM item") == 200


def test_create_goes_on_beside_a_writer_in_wal_mode(servers, shells, base):
    server = start(servers, base, "--busy-timeout", "1")
    application = shells(server.live())
    application.sql("BEGIN IMMEDIATE")
    application.sql("INSERT INTO item(text) VALUES('not yet')")
    name = server.create()["filename"]
    assert dbfile.query(
        server.backup_path(name), "SELECT count(*) FROM item", True
    ) == [(200,)]
    application.sql("COMMIT")


def test_create_gives_up_while_a_rollback_database_is_locked(servers, shells, base):
    server = start(servers, base, "--busy-timeout", "1", mode="delete")
    application = shells(server.live())
    application.sql("BEGIN EXCLUSIVE")
    before = listing(server)
    assert_busy(server.post(BACKUP), "locked")
    assert listing(server) == before
    application.sql("COMMIT")
    assert server.create()


def test_restore_waits_for_a_reader_in_rollback_mode(servers, shells, base):
    """It gives up before anything changed, and readers never fail for it."""
    server = start(servers, base, "--busy-timeout", "1", mode="delete")
    name = server.create()["filename"]
    reader, writer = shells(server.live()), shells(server.live())
    reader.sql("BEGIN")
    reader.sql("SELECT count(*) FROM item")
    before = listing(server)
    assert_busy(server.post(f"{BACKUP}/{name}/restore"), "locked")
    assert listing(server) == before
    assert reader.value("SELECT count(*) FROM item") == 200
    reader.sql("COMMIT")
    writer.sql("INSERT INTO item(text) VALUES('after')")
    assert server.restore(name)


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_application_that_locks_exclusively_is_named(servers, shells, base, mode):
    server = start(servers, base, "--busy-timeout", "1", mode=mode)
    name = server.create()["filename"]
    application = shells(server.live())
    application.sql("PRAGMA locking_mode=EXCLUSIVE")
    application.sql("BEGIN IMMEDIATE")
    application.sql("INSERT INTO item(text) VALUES('mine')")
    application.sql("COMMIT")
    before = listing(server)
    for path in (BACKUP, f"{BACKUP}/{name}/restore"):
        response = server.post(path)
        assert response.status == 503, response
        assert response.json()["details"]["reason"] in ("exclusive", "locked")
        if mode == "wal":
            assert_busy(response, "exclusive")
    assert listing(server) == before
    # In WAL mode SQLite stays exclusive until the connection is closed.
    application.close()
    assert server.create()


def test_copy_that_would_hold_the_wal_gives_up(servers, shells, base):
    """An application's own reader keeps the WAL; the copy would too."""
    server = start(servers, base, "--wal-limit", "100000")
    reader, writer = shells(server.live()), shells(server.live())
    reader.sql("BEGIN")
    reader.sql("SELECT count(*) FROM item")
    writer.sql("PRAGMA wal_autocheckpoint=0")
    writer.sql("UPDATE item SET text=text||hex(randomblob(400))")
    assert server.live().with_name("app.db-wal").stat().st_size > 100000
    before = listing(server)
    assert_busy(server.post(BACKUP), "wal_limit")
    assert listing(server) == before
    reader.sql("COMMIT")
    writer.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert server.create()


def test_restore_that_would_stall_writers_too_long_is_refused(servers, base):
    """Before it locks: the live file, and the application, notice nothing."""
    server = start(servers, base, "--max-stall", "1ms", rows=20000)
    name = server.create()["filename"]
    dbfile.execute(server.live(), "UPDATE item SET text=id||'changed'")
    content = dbfile.content_digest(server.live())
    before = listing(server)
    response = server.post(f"{BACKUP}/{name}/restore")
    assert response.status == 503, response
    assert response.json()["details"]["reason"] == "max_stall"
    assert "--max-stall" in response.json()["message"]
    assert listing(server) == before
    assert dbfile.content_digest(server.live()) == content


def test_growth_of_the_wal_by_a_restore_is_taken_back(servers, shells, base):
    server = start(servers, base, rows=20000)
    name = server.create()["filename"]
    application = shells(server.live())
    application.sql("DELETE FROM item")
    application.sql("VACUUM")
    application.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    server.restore(name)
    assert server.live().with_name("app.db-wal").stat().st_size <= 1 << 20
    assert application.value("SELECT count(*) FROM item") == 20000


def test_nothing_is_held_while_nothing_runs(server, shells):
    """No lock, no checkpoint, no -wal kept: the application is left alone."""
    application = shells(server.live())
    application.sql("INSERT INTO item(text) VALUES('x')")
    name = server.create()["filename"]
    server.post(f"{BACKUP}/{name}/verify")
    assert application.sql("PRAGMA wal_checkpoint(TRUNCATE)") == [[0, 0, 0]]
    assert application.sql("PRAGMA journal_mode=delete") == [["delete"]]
    assert application.sql("PRAGMA journal_mode=wal") == [["wal"]]
    live = str(server.live())
    assert not [path for path in server.descriptors() if path.startswith(live)]


def test_create_runs_no_checkpoint(server, shells):
    application = shells(server.live())
    application.sql("PRAGMA wal_autocheckpoint=0")
    application.sql("UPDATE item SET text=text||'!'")
    wal = server.live().with_name("app.db-wal")
    before = (wal.stat().st_size, server.live().stat().st_mtime_ns)
    server.create()
    assert (wal.stat().st_size, server.live().stat().st_mtime_ns) == before


def test_closed_application_finds_no_files_of_ours(server):
    name = server.create()["filename"]
    server.restore(name)
    assert sorted(os.listdir(server.live().parent)) == ["app.db"]


def in_thread(server, path):
    """Send a POST on a thread; returns the thread and the list for its answer."""
    answers = []
    thread = threading.Thread(target=lambda: answers.append(server.post(path)))
    thread.start()
    return thread, answers


def test_stop_during_a_create_ends_cleanly(servers, shells, base):
    """SIGTERM: what has not begun is refused, and nothing is left behind."""
    server = start(servers, base, mode="delete")
    application = shells(server.live())
    application.sql("BEGIN EXCLUSIVE")
    server.phase_file.write_text("")
    thread, answers = in_thread(server, BACKUP)
    wait_for(lambda: server.phase().startswith("api.create"), "the create to begin")
    start_s = time.monotonic()
    server.stop()
    thread.join()
    assert_busy(answers[0], "stopping")
    assert time.monotonic() - start_s < 9, "it waited for the busy timeout"
    application.sql("COMMIT")
    assert os.listdir(server.data / "tmp") == []
    server.start()
    assert server.backups() == []


def test_stop_lets_a_restore_under_way_end(servers, base):
    server = start(servers, base, rows=20000)
    name = server.create()["filename"]
    dbfile.execute(server.live(), "UPDATE item SET text='changed'")
    server.phase_file.write_text("")
    thread, answers = in_thread(server, f"{BACKUP}/{name}/restore")
    wait_for(lambda: server.phase() not in ("", "api.restore"), "the restore to begin")
    server.stop()
    thread.join()
    changed = dbfile.query(server.live(), "SELECT sum(text='changed') FROM item")
    if answers[0].status == 200:
        assert changed == [(0,)]
    else:
        assert_busy(answers[0], "stopping")
        assert changed == [(20000,)]
    assert dbfile.integrity(server.live()) == "ok"
    assert os.listdir(server.data / "tmp") == []


def test_second_server_on_the_same_directory_refuses(server, servers):
    other = servers(name="one")
    other.log_path = other.base / "second.log"
    other.spawn()
    assert other.process.wait(timeout=60) != 0
    text = other.log()
    other.process = None
    assert "in use" in text or "another" in text, text
    assert server.get(BACKUP).status == 200


def test_different_databases_go_on_side_by_side(servers, shells, base):
    """A restore that waits for one database does not hold up another."""
    server = start(servers, base, "--busy-timeout", "5")
    assert server.post("/api/v1/databases", {"name": "other"}).status == 201
    name = server.create()["filename"]
    application = shells(server.live())
    application.sql("BEGIN IMMEDIATE")
    thread, answers = in_thread(server, f"{BACKUP}/{name}/restore")
    wait_for(lambda: server.phase() == "restore.copy", "the restore to begin")
    assert server.create("other")
    assert not answers
    application.sql("COMMIT")
    thread.join()
    assert answers[0].status == 200


def test_refuses_to_start_beyond_loopback_without_auth(servers):
    for change in (
        lambda c: [x.replace("127.0.0.1", "0.0.0.0") for x in c],
        lambda c: [x.replace("127.0.0.1", "[::]") for x in c],
    ):
        server = servers()
        command = server.command
        server.command = lambda: change(command())
        server.spawn()
        status = server.process.wait(timeout=60)
        server.process = None
        assert status not in (0, -9, -11), server.log()
        assert server.log()
