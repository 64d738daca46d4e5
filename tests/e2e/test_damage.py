"""P7: damage is found, told with what and where, and never passed on.

Damaged, encrypted and foreign files as sources; damaged backups; live files
that are missing, empty or unreadable; backups of other sizes, page sizes,
encodings and auto-vacuum modes; what a killed application left behind.
"""

import itertools
import sqlite3
import os
import random
import shutil

import pytest

import dbfile
from app import AppError
from server import API, BACKUP, DATABASES, wait_for

OLD = "app_20250101_000000.db"


def adopt(server, source, name=OLD):
    """Put a file among the backups, as if it had always been there."""
    server.folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copy(source, server.backup_path(name))
    return name


def rich(server):
    """The rich list: what is known of each backup, suspects included."""
    response = server.get(f"{DATABASES}/default/backups")
    assert response.status == 200
    return {entry["filename"]: entry for entry in response.json()["backups"]}


def suspects(server):
    return [name for name, entry in rich(server).items() if entry["state"] == "suspect"]


def damage_page(path, page, page_size=4096):
    """Break the b-tree header of a page beyond repair."""
    with open(path, "r+b") as file:
        file.seek((page - 1) * page_size)
        file.write(b"\x55" * 64)


def root_page(path, name):
    sql = f"SELECT rootpage FROM sqlite_master WHERE name='{name}'"
    return dbfile.query(path, sql)[0][0]


# ---- the source is not what it should be ----


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_damaged_source_is_told_and_kept_aside(servers, base, mode):
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", rows=2000, journal=mode))
    damage_page(live, root_page(live, "item_text"))
    server.start()
    response = server.post(BACKUP)
    assert (response.status, response.error) == (422, "OPERATION_FAILED")
    assert "damaged" in response.json()["message"]
    assert server.backups() == []
    assert len(suspects(server)) == 1
    name = suspects(server)[0]
    path = f"{BACKUP}/{name}"
    details = server.details(name)
    assert details["state"] == "suspect"
    assert details["proof"]["result"] == "damaged" and details["proof"]["problem"]
    assert server.get(path + "/download").status == 422
    response = server.get(path + "/download?suspect=true")
    assert response.status == 200 and len(response.body) == live.stat().st_size
    assert server.post(path + "/restore").status == 422
    assert server.delete(path).status == 200
    assert suspects(server) == []


def test_newest_two_suspects_are_kept(servers, base):
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", rows=2000))
    damage_page(live, root_page(live, "item_text"))
    server.start()
    seen = []
    for _ in range(4):
        assert server.post(BACKUP).status == 422
        seen.append(max(suspects(server)))
    assert suspects(server) == sorted(seen, reverse=True)[:2]


def messages_for(servers, content):
    """What create and restore say of a live file with this content."""
    server = servers(name=f"m{abs(hash(content[:64]))}")
    live = server.live()
    live.parent.mkdir(parents=True, mode=0o700)
    live.write_bytes(content)
    before = dbfile.state_of(live)
    server.start()
    response = server.post(BACKUP)
    assert (response.status, response.error) == (422, "OPERATION_FAILED"), response
    assert dbfile.state_of(live) == before
    assert server.backups() == []
    server.stop()
    return response.json()["message"]


def test_encrypted_foreign_and_damaged_are_told_apart(servers, base):
    whole = dbfile.make(base / "x.db", rows=2000, journal="delete").read_bytes()
    damaged = bytearray(whole)
    damaged[4096 * 3 : 4096 * 3 + 64] = b"\x55" * 64
    messages = {
        "encrypted": messages_for(servers, random.Random(5).randbytes(8192)),
        "foreign": messages_for(servers, b"name,amount\nx,1\n" * 600),
        "damaged": messages_for(servers, bytes(damaged)),
    }
    assert len(set(messages.values())) == 3, messages
    assert "encrypted" in messages["encrypted"]
    assert "not a" in messages["foreign"] or "no SQLite" in messages["foreign"]
    assert "damaged" in messages["damaged"]


@pytest.mark.parametrize("kind", ["encrypted", "foreign"])
def test_no_restore_overwrites_what_is_no_database_of_ours(servers, base, kind):
    server = servers()
    good = dbfile.make(base / "x.db", journal="delete")
    content = {
        "encrypted": random.Random(6).randbytes(16384),
        "foreign": b"%PDF-1.7\n" + b"words and words\n" * 500,
    }[kind]
    live = server.live()
    live.parent.mkdir(parents=True, mode=0o700)
    live.write_bytes(content)
    before = dbfile.state_of(live)
    adopt(server, good)
    server.start()
    response = server.post(f"{BACKUP}/{OLD}/restore")
    assert response.status in (409, 422), response
    assert dbfile.state_of(live) == before


# ---- a backup that somebody put there (others: test_verify.py) ----


def test_adopted_backup_that_is_damaged_is_not_restored(servers, base):
    server = servers()
    server.prepare(dbfile.make(base / "x.db"))
    bad = dbfile.make(base / "bad.db", rows=2000, journal="delete")
    damage_page(bad, root_page(bad, "item_text"))
    adopt(server, bad)
    server.start()
    before = dbfile.state_of(server.live())
    assert server.post(f"{BACKUP}/{OLD}/restore").status == 422
    assert dbfile.state_of(server.live()) == before
    wait_for(lambda: server.backups() == [], "the damaged backup to leave the list")


# ---- the live file is not there, or empty, or unreadable ----


def test_missing_live_file_is_made_with_owner_of_its_folder(server):
    name = server.create()["filename"]
    wanted = dbfile.content_digest(server.backup_path(name), True)
    live = server.live()
    live.unlink()
    os.chown(live.parent, 65534, 65534)
    assert server.restore(name) is None
    assert dbfile.content_digest(live) == wanted
    assert (live.stat().st_uid, live.stat().st_gid) == (65534, 65534)
    assert server.backups() == [name]


def test_missing_live_file_with_a_wal_left_is_a_conflict(server):
    name = server.create()["filename"]
    live = server.live()
    live.unlink()
    wal = live.with_name("app.db-wal")
    wal.write_bytes(b"x" * 4152)
    response = server.post(f"{BACKUP}/{name}/restore")
    assert response.status == 409, response
    assert wal.read_bytes() == b"x" * 4152 and not live.exists()


def test_empty_live_file_is_restored_in_place(server):
    name = server.create()["filename"]
    wanted = dbfile.content_digest(server.backup_path(name), True)
    live = server.live()
    os.truncate(live, 0)
    inode = live.stat().st_ino
    assert server.restore(name) is None
    assert dbfile.content_digest(live) == wanted
    assert live.stat().st_ino == inode


@pytest.mark.parametrize("kind", ["header", "first page", "zeros", "half"])
def test_live_file_too_damaged_to_open_is_kept_aside_and_replaced(servers, base, kind):
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", rows=2000, journal="delete"))
    server.start()
    name = server.create()["filename"]
    wanted = dbfile.content_digest(server.backup_path(name), True)
    content = bytearray(live.read_bytes())
    if kind == "header":
        content[16:24] = b"\x03\x03\x09\x09\x00\x00\x00\x00"
    elif kind == "first page":
        content[100:4096] = b"\x55" * 3996
    elif kind == "zeros":
        content[:] = bytes(len(content))
    else:
        del content[len(content) // 2 + 77 :]
    live.write_bytes(content)
    inode = live.stat().st_ino
    response = server.post(f"{BACKUP}/{name}/restore")
    assert response.status == 200, response
    assert dbfile.content_digest(live) == wanted
    assert dbfile.integrity(live) == "ok"
    assert live.stat().st_ino == inode
    kept = suspects(server)
    assert len(kept) == 1
    path = f"{BACKUP}/{kept[0]}/download?suspect=true"
    assert server.get(path).body[4096:8192] == bytes(content[4096:8192])


# ---- the backup differs in size, page size, encoding, auto-vacuum ----


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
@pytest.mark.parametrize("rows", [0, 10, 20000])
def test_larger_and_smaller_backups(servers, shells, base, mode, rows):
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", rows=3000, journal=mode))
    source = dbfile.make(base / "y.db", rows=rows, seed=2, journal="delete")
    adopt(server, source)
    server.start()
    application = shells(live)
    assert application.value("SELECT count(*) FROM item") == 3000
    safety = server.restore(OLD)
    assert application.value("SELECT count(*) FROM item") == rows
    assert application.value("PRAGMA integrity_check") == "ok"
    assert application.value("PRAGMA journal_mode") == mode
    application.close()
    assert dbfile.content_digest(live) == dbfile.content_digest(source)
    if mode == "delete":
        assert live.stat().st_size == source.stat().st_size
    assert server.restore(safety) is not None
    assert dbfile.query(live, "SELECT count(*) FROM item") == [(3000,)]


@pytest.mark.parametrize("page_size", [512, 1024, 8192, 65536])
@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_other_page_size(servers, shells, base, mode, page_size):
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", rows=500, journal=mode))
    source = dbfile.make(base / "y.db", seed=2, page_size=page_size, journal="delete")
    wanted = dbfile.content_digest(source)
    adopt(server, source)
    server.start()
    application = shells(live)
    application.sql("SELECT count(*) FROM item")
    server.restore(OLD)
    assert application.value("SELECT count(*) FROM item") == 200
    application.sql("INSERT INTO item(text) VALUES('after')")
    application.sql("DELETE FROM item WHERE text='after'")
    assert application.value("PRAGMA integrity_check") == "ok"
    application.close()
    assert dbfile.content_digest(live) == wanted
    assert dbfile.pragma(live, "journal_mode") == mode.encode()


def test_other_page_size_with_the_applications_functions(servers, base):
    """An index on a function of the application's own is carried over."""
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db"))
    source = base / "y.db"
    with_function(source)
    adopt(server, source)
    server.start()
    assert server.restore(OLD)
    db = sqlite3.connect(live)
    db.create_function("twice", 1, lambda x: 2 * x, deterministic=True)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert db.execute("SELECT x FROM n WHERE twice(x)=4").fetchall() == [(2,)]
    db.close()


def with_function(path):
    """A database whose index calls a function that only the application has."""
    dbfile.make(path, page_size=8192, journal="delete")
    db = sqlite3.connect(path)
    db.create_function("twice", 1, lambda x: 2 * x, deterministic=True)
    db.execute("CREATE TABLE n(x INTEGER)")
    db.execute("INSERT INTO n VALUES(1),(2),(3)")
    db.execute("CREATE INDEX n_twice ON n(twice(x))")
    db.commit()
    db.close()


def test_schema_with_the_applications_functions_is_backed_up(servers, base):
    server = servers()
    with_function(base / "x.db")
    server.prepare(base / "x.db")
    server.start()
    name = server.create()["filename"]
    details = server.details(name)
    assert details["state"] == "good"  # quick_check looks into no index
    body = server.post(f"{BACKUP}/{name}/verify").json()
    assert body["state"] == "good" and "twice" in body["proof"]["not_checked"]
    assert server.restore(name)


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_other_encoding_needs_force(servers, base, mode):
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", journal=mode))
    source = dbfile.make(base / "y.db", encoding="UTF-16le", seed=2, journal="delete")
    adopt(server, source)
    server.start()
    before = dbfile.state_of(live)
    response = server.post(f"{BACKUP}/{OLD}/restore")
    assert (response.status, response.error) == (409, "CONFLICT")
    assert dbfile.state_of(live) == before and server.backups() == [OLD]
    assert server.restore(OLD, force=True)
    assert dbfile.content_digest(live) == dbfile.content_digest(source)


COMBINATIONS = list(
    itertools.product((0, 1, 2), (0, 1, 2), (2000, 5000), (False, True))
)


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_every_combination_of_auto_vacuum_is_equal_bit_by_bit(in_memory, mode):
    server, live, base = in_memory, in_memory.live(), in_memory.base
    for n, (av, backup_av, rows, free) in enumerate(COMBINATIONS):
        name = f"app_20250101_0000{n:02}.db"
        source = dbfile.make(
            base / "y.db", rows, 2, auto_vacuum=backup_av, free=free, journal="delete"
        )
        adopt(server, source, name)
        dbfile.make(base / "x.db", 3000, auto_vacuum=av, journal=mode)
        shutil.copy(base / "x.db", live)
        what = f"live {av}, backup {backup_av}, {rows} rows, free {free}"
        response = server.post(f"{BACKUP}/{name}/restore")
        assert response.status == 200, what
        assert dbfile.integrity(live) == "ok", what
        dbfile.execute(live, "PRAGMA wal_checkpoint(TRUNCATE)")
        assert dbfile.page_bytes(live) == dbfile.page_bytes(source), what
        assert dbfile.header(live)["journal"] == ((2, 2) if mode == "wal" else (1, 1))


# ---- what an application leaves behind, and what it remembers ----


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_what_a_killed_application_left_is_backed_up_and_restored(
    servers, shells, base, mode
):
    """A hot -wal or -journal: commits stay, the unfinished one goes."""
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", rows=2000, journal=mode))
    server.start()
    first = server.create()["filename"]
    application = shells(live)
    application.sql("PRAGMA wal_autocheckpoint=0")
    application.sql("UPDATE item SET text='committed' WHERE id<100")
    application.sql("PRAGMA cache_size=5")
    application.sql("BEGIN")
    application.sql("UPDATE item SET text=text||'unfinished'")
    application.kill()
    left = live.with_name("app.db-wal" if mode == "wal" else "app.db-journal")
    assert left.stat().st_size > 0
    second = server.create()["filename"]
    copy = server.backup_path(second)
    counts = "SELECT sum(text='committed'), sum(text LIKE '%unfinished') FROM item"
    assert dbfile.query(copy, counts, True) == [(99, 0)]
    safety = server.restore(first)
    assert dbfile.query(live, counts) == [(0, 0)]
    assert dbfile.integrity(live) == "ok"
    server.restore(safety)
    assert dbfile.query(live, counts) == [(99, 0)]


def test_hot_journal_at_a_restore(servers, shells, base):
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", rows=2000, journal="delete"))
    server.start()
    first = server.create()["filename"]
    wanted = dbfile.content_digest(live)
    application = shells(live)
    application.sql("PRAGMA cache_size=5")
    application.sql("BEGIN")
    application.sql("UPDATE item SET text=text||'unfinished'")
    application.kill()
    safety = server.restore(first)
    assert dbfile.content_digest(live) == wanted
    assert dbfile.content_digest(server.backup_path(safety), True) == wanted


def test_cached_schema_of_an_application_is_not_used_after_a_restore(
    servers, shells, base
):
    """The schema cookie moves on: no row lands in a table of another name."""
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db"))
    server.start()
    name = server.create()["filename"]
    first = shells(live)
    first.sql("CREATE TABLE x(id INTEGER PRIMARY KEY, secret TEXT)")
    first.sql("INSERT INTO x VALUES(1, 'old')")
    server.restore(name)
    second = shells(live)
    second.sql("CREATE TABLE y(p TEXT, q INTEGER, r INTEGER)")
    second.sql("INSERT INTO y VALUES('yy', 1, 2)")
    with pytest.raises(AppError, match="no such table"):
        first.sql("INSERT INTO x VALUES(77, 'ghost')")
    assert second.sql("SELECT * FROM y") == [["yy", 1, 2]]
    assert second.value("PRAGMA integrity_check") == "ok"


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
@pytest.mark.parametrize("delta", [-1, 0, 1])
def test_application_sees_the_restore_whatever_the_change_counters(
    servers, shells, base, mode, delta
):
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", rows=300, journal=mode))
    source = dbfile.make(base / "y.db", rows=300, seed=2, journal="delete")
    counter = dbfile.header(live)["change_counter"] + delta
    with open(source, "r+b") as file:
        for offset in (24, 92):
            file.seek(offset)
            file.write(counter.to_bytes(4, "big"))
    adopt(server, source)
    server.start()
    application = shells(live)
    look = "SELECT min(text) FROM item"
    assert application.value(look).startswith("1-")
    server.restore(OLD)
    assert application.value(look).startswith("2-")
    assert application.value("PRAGMA integrity_check") == "ok"


def test_backup_whose_header_says_wal_does_not_change_the_live_mode(servers, base):
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", journal="delete"))
    source = dbfile.make(base / "y.db", seed=2, journal="wal")
    assert dbfile.header(source)["journal"] == (2, 2)
    adopt(server, source)
    server.start()
    server.restore(OLD)
    assert dbfile.header(live)["journal"] == (1, 1)
    assert dbfile.query(live, "SELECT min(text) FROM item")[0][0].startswith(b"2-")


def test_reader_in_the_middle_keeps_its_snapshot(servers, shells, base):
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db"))
    server.start()
    name = server.create()["filename"]
    reader, writer = shells(live), shells(live)
    writer.sql("DELETE FROM item WHERE id>7")
    reader.sql("BEGIN")
    assert reader.value("SELECT count(*) FROM item") == 7
    server.restore(name)
    assert reader.value("SELECT count(*) FROM item") == 7
    assert writer.value("SELECT count(*) FROM item") == 200
    with pytest.raises(AppError, match="locked"):
        reader.sql("DELETE FROM item")
    reader.sql("ROLLBACK")
    assert reader.value("SELECT count(*) FROM item") == 200


def test_link_and_folder_and_fifo_are_no_live_databases(servers, base):
    for kind in ("hard link", "folder", "fifo"):
        server = servers(name=kind.replace(" ", "-"))
        live = server.prepare(dbfile.make(base / "x.db"))
        if kind == "hard link":
            live.with_name("other.db").hardlink_to(live)
        elif kind == "folder":
            live.unlink()
            live.mkdir()
        else:
            live.unlink()
            os.mkfifo(live)
        server.start()
        assert server.post(BACKUP).status in (404, 409, 422), kind
        assert server.get(API + "/databases").status == 200
        server.stop()
