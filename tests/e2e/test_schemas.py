"""Any schema makes the round trip: backed up, changed, restored, bit by bit.

Also what needs the application's own functions, collations and modules, which
this program does not have: the structure is checked, and the rest reported as
not checked, never as damage.
"""

import sqlite3

import pytest

import dbfile
from server import BACKUP

PAGE_SIZES = (512, 1024, 4096, 8192, 65536)

SCHEMAS = {
    "empty": "",
    "without rowid": """
        CREATE TABLE w(a TEXT, b INTEGER, c BLOB, PRIMARY KEY(a, b)) WITHOUT ROWID;
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<400)
        INSERT INTO w SELECT 'key' || i, i, randomblob(i) FROM n;
    """,
    "fts5": """
        CREATE VIRTUAL TABLE f USING fts5(title, body);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<300)
        INSERT INTO f SELECT 'title ' || i, 'some words and number ' || i FROM n;
    """,
    "rtree": """
        CREATE VIRTUAL TABLE r USING rtree(id, x0, x1, y0, y1);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<300)
        INSERT INTO r SELECT i, i, i+1, -i, 1-i FROM n;
    """,
    "generated": """
        CREATE TABLE g(a INTEGER, b AS (a*2) STORED, c TEXT AS ('x' || a) VIRTUAL);
        CREATE INDEX g_c ON g(c);
        INSERT INTO g(a) VALUES(1), (2), (3);
    """,
    "triggers and views": """
        CREATE TABLE t(a INTEGER); CREATE TABLE log(a INTEGER);
        CREATE TRIGGER t_log AFTER INSERT ON t BEGIN INSERT INTO log VALUES(new.a); END;
        CREATE VIEW v AS SELECT a, count(*) AS n FROM log GROUP BY a;
        INSERT INTO t VALUES(1), (1), (2);
    """,
    "quoted names": """
        CREATE TABLE "sel""ect from; -- "(x); CREATE INDEX 'a b' ON "sel""ect from; -- "(x);
        INSERT INTO "sel""ect from; -- " VALUES('Grüße'), (x'00ff'), (NULL), (1e300);
    """,
    "large values": """
        CREATE TABLE b(x BLOB);
        INSERT INTO b VALUES(randomblob(1000000)), (zeroblob(300000));
    """,
    "foreign keys and strict": """
        CREATE TABLE p(id INTEGER PRIMARY KEY) STRICT;
        CREATE TABLE c(p INTEGER REFERENCES p(id) ON DELETE CASCADE) STRICT;
        INSERT INTO p VALUES(1); INSERT INTO c VALUES(1);
    """,
}


def backward(a, b):
    return (a < b) - (a > b)


def application_connection(path):
    """A connection with all that the application brings along."""
    db = sqlite3.connect(path, isolation_level=None)
    db.create_function("twice", 1, lambda x: 2 * x, deterministic=True)
    db.create_function("is_fine", 1, lambda x: 1, deterministic=True)
    db.create_collation("backward", backward)
    return db


APPLICATION = {
    "collation": """
        CREATE TABLE t(x TEXT COLLATE backward); CREATE INDEX t_x ON t(x);
        INSERT INTO t VALUES('a'), ('c'), ('b');
    """,
    "function in a check": """
        CREATE TABLE t(x INTEGER CHECK(is_fine(x))); INSERT INTO t VALUES(1), (2);
    """,
    "function in an index": """
        CREATE TABLE t(x INTEGER); CREATE INDEX t_x ON t(twice(x));
        INSERT INTO t VALUES(3), (1), (2);
    """,
    "function in a generated column": """
        CREATE TABLE t(x INTEGER, y AS (twice(x)) STORED); CREATE INDEX t_y ON t(y);
        INSERT INTO t(x) VALUES(3), (1), (2);
    """,
    "function in a partial index": """
        CREATE TABLE t(x INTEGER); CREATE INDEX t_x ON t(x) WHERE is_fine(x);
        INSERT INTO t VALUES(3), (1), (2);
    """,
    "module": """
        CREATE TABLE t(x INTEGER); INSERT INTO t VALUES(1);
        PRAGMA writable_schema=ON;
        INSERT INTO sqlite_master VALUES
            ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING nowhere(a, b)');
        PRAGMA writable_schema=OFF;
    """,
}


def round_trip(server, live, change):
    """Back up, change, restore; the copy's details and whether it is equal."""
    name = server.create()["filename"]
    copy = server.backup_path(name)
    change()
    safety = server.restore(name)
    dbfile.execute(live, "PRAGMA wal_checkpoint(TRUNCATE)")
    assert dbfile.page_bytes(live) == dbfile.page_bytes(copy)
    assert safety and server.backup_path(safety).exists()
    return server.details(name), server.post(f"{BACKUP}/{name}/verify").json()


@pytest.mark.parametrize("kind", SCHEMAS)
def test_any_schema_makes_the_round_trip(servers, base, kind):
    for page_size in PAGE_SIZES:
        server = servers(name=f"p{page_size}")
        made = dbfile.make(base / "x.db", 20, page_size=page_size, sql=SCHEMAS[kind])
        live = server.prepare(made)
        content = dbfile.content_digest(live)
        server.start()
        details, verified = round_trip(
            server,
            live,
            lambda: dbfile.execute(
                live, "CREATE TABLE other(x)", "DELETE FROM item", "VACUUM"
            ),
        )
        assert details["proof"]["result"] == verified["proof"]["result"] == "ok"
        assert dbfile.content_digest(live) == content
        assert dbfile.integrity(live) == "ok"
        server.stop()


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
@pytest.mark.parametrize("kind", APPLICATION)
def test_what_the_application_brings_along_is_not_damage(servers, base, kind, mode):
    server = servers()
    db = application_connection(base / "x.db")
    db.execute(f"PRAGMA journal_mode={mode}")
    db.executescript(APPLICATION[kind])
    db.close()
    live = server.prepare(base / "x.db")
    server.start()

    def change():
        other = application_connection(live)
        other.execute("DELETE FROM t")
        other.close()

    details, verified = round_trip(server, live, change)
    for facts in (details, verified):
        assert facts["state"] == "good"
        assert facts["proof"]["result"] == "ok", facts
    if "index" in kind or kind in ("collation", "module"):
        assert verified["proof"]["not_checked"], verified
    if kind != "module":
        db = application_connection(live)
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.close()


@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_any_encoding_makes_the_round_trip(servers, base, encoding, mode):
    server = servers()
    made = dbfile.make(base / "x.db", encoding=encoding, journal=mode)
    live = server.prepare(made)
    server.start()
    round_trip(server, live, lambda: dbfile.execute(live, "DELETE FROM item"))
    assert dbfile.pragma(live, "encoding") == encoding.encode()
