"""Any schema makes the round trip: backed up, changed, restored, bit by bit.

Each kind of schema at every page size, with every auto-vacuum mode and text
encoding, in both kinds of journal; page by page the backup is the database,
and the restored database is the backup.

Also what needs the application's own functions, collations and modules, which
this program does not have: the structure is checked, and the rest reported as
not checked, never as damage.
"""

import itertools
import sqlite3

import pytest

import dbfile
from server import BACKUP

PAGE_SIZES = (512, 1024, 4096, 8192, 65536)
ENCODINGS = ("UTF-8", "UTF-16le", "UTF-16be")
EVERYTHING = list(itertools.product(PAGE_SIZES, dbfile.AUTO_VACUUM, ENCODINGS))
SOME = [(page_size, 0, "UTF-8") for page_size in PAGE_SIZES]

ROWS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<300)"

# What makes the schema, and what changes it afterwards.
SCHEMAS = {
    "rowid": (
        f"""
        CREATE TABLE t(id INTEGER PRIMARY KEY, x TEXT, y BLOB);
        CREATE INDEX t_x ON t(x);
        {ROWS} INSERT INTO t SELECT i, 'text ' || i, randomblob(i) FROM n;
        """,
        "DELETE FROM t WHERE id%3",
    ),
    "without rowid": (
        f"""
        CREATE TABLE w(a TEXT, b INTEGER, c BLOB, PRIMARY KEY(a, b)) WITHOUT ROWID;
        {ROWS} INSERT INTO w SELECT 'key' || i, i, randomblob(i) FROM n;
        """,
        "UPDATE w SET c=zeroblob(9) WHERE b>50",
    ),
    "fts5": (
        f"""
        CREATE VIRTUAL TABLE f USING fts5(title, body);
        {ROWS} INSERT INTO f SELECT 'title ' || i, 'words and number ' || i FROM n;
        """,
        "DELETE FROM f WHERE rowid>7",
    ),
    "rtree": (
        f"""
        CREATE VIRTUAL TABLE r USING rtree(id, x0, x1, y0, y1);
        {ROWS} INSERT INTO r SELECT i, i, i+1, -i, 1-i FROM n;
        """,
        "DELETE FROM r WHERE id>7",
    ),
    "generated": (
        """
        CREATE TABLE g(a INTEGER, b AS (a*2) STORED, c TEXT AS ('x' || a) VIRTUAL);
        CREATE INDEX g_c ON g(c);
        INSERT INTO g(a) VALUES(1), (2), (3);
        """,
        "UPDATE g SET a=a+1",
    ),
    "empty": ("PRAGMA user_version=0", "CREATE TABLE first(x)"),
    "collation": (
        """
        CREATE TABLE t(x TEXT COLLATE backward); CREATE INDEX t_x ON t(x);
        INSERT INTO t VALUES('a'), ('c'), ('b');
        """,
        "DELETE FROM t",
    ),
    "function in a check": (
        "CREATE TABLE t(x INTEGER CHECK(is_fine(x))); INSERT INTO t VALUES(1), (2);",
        "DELETE FROM t",
    ),
    "function in an index": (
        """
        CREATE TABLE t(x INTEGER); CREATE INDEX t_x ON t(twice(x));
        INSERT INTO t VALUES(3), (1), (2);
        """,
        "DELETE FROM t",
    ),
    "module": (
        """
        CREATE TABLE t(x INTEGER); INSERT INTO t VALUES(1);
        PRAGMA writable_schema=ON;
        INSERT INTO sqlite_master VALUES
            ('table', 'v', 'v', 0, 'CREATE VIRTUAL TABLE v USING nowhere(a, b)');
        PRAGMA writable_schema=OFF;
        """,
        "DELETE FROM t",
    ),
}
MORE_SCHEMAS = {
    "triggers and views": (
        """
        CREATE TABLE t(a INTEGER); CREATE TABLE log(a INTEGER);
        CREATE TRIGGER t_log AFTER INSERT ON t BEGIN INSERT INTO log VALUES(new.a); END;
        CREATE VIEW v AS SELECT a, count(*) AS n FROM log GROUP BY a;
        INSERT INTO t VALUES(1), (1), (2);
        """,
        "DELETE FROM t",
    ),
    "quoted names": (
        """
        CREATE TABLE "sel""ect from; -- "(x);
        CREATE INDEX 'a b' ON "sel""ect from; -- "(x);
        INSERT INTO "sel""ect from; -- " VALUES('Grüße'), (x'00ff'), (NULL), (1e300);
        """,
        "DROP INDEX 'a b'",
    ),
    "large values": (
        """
        CREATE TABLE b(x BLOB);
        INSERT INTO b VALUES(randomblob(1000000)), (zeroblob(300000));
        """,
        "DELETE FROM b",
    ),
    "foreign keys and strict": (
        """
        CREATE TABLE p(id INTEGER PRIMARY KEY) STRICT;
        CREATE TABLE c(p INTEGER REFERENCES p(id) ON DELETE CASCADE) STRICT;
        INSERT INTO p VALUES(1); INSERT INTO c VALUES(1);
        """,
        "DELETE FROM c",
    ),
    "function in a generated column": (
        """
        CREATE TABLE t(x INTEGER, y AS (twice(x)) STORED); CREATE INDEX t_y ON t(y);
        INSERT INTO t(x) VALUES(3), (1), (2);
        """,
        "DELETE FROM t",
    ),
    "function in a partial index": (
        """
        CREATE TABLE t(x INTEGER); CREATE INDEX t_x ON t(x) WHERE is_fine(x);
        INSERT INTO t VALUES(3), (1), (2);
        """,
        "DELETE FROM t",
    ),
}
NOT_CHECKED = (
    "collation",
    "function in an index",
    "function in a partial index",
    "module",
)


def backward(a, b):
    return (a < b) - (a > b)


def application_connection(path):
    """A connection with all that the application brings along."""
    db = sqlite3.connect(path, isolation_level=None)
    db.create_function("twice", 1, lambda x: 2 * x, deterministic=True)
    db.create_function("is_fine", 1, lambda x: 1, deterministic=True)
    db.create_collation("backward", backward)
    return db


def make(path, sql, page_size, auto_vacuum, encoding, mode):
    """The database of an application that is not running."""
    db = application_connection(path)
    db.execute(f"PRAGMA page_size={page_size}")
    db.execute(f"PRAGMA encoding='{encoding}'")
    db.execute(f"PRAGMA auto_vacuum={auto_vacuum}")
    db.execute("PRAGMA synchronous=OFF")
    db.executescript(f"BEGIN; CREATE TABLE k(x); DROP TABLE k; COMMIT; {sql}")
    db.execute(f"PRAGMA journal_mode={mode}")
    db.close()


def change(path, sql):
    """What the application does next: it grows, and alters what was there."""
    db = application_connection(path)
    db.execute("PRAGMA synchronous=OFF")
    db.execute(sql)
    db.execute("CREATE TABLE other(x)")
    db.execute(f"{ROWS} INSERT INTO other SELECT randomblob(99) FROM n")
    db.close()


def findings(path):
    db = application_connection(path)
    rows = db.execute("PRAGMA integrity_check").fetchall()
    db.close()
    return rows


def round_trip(server, kind, sql, change_sql, combination, mode):
    """Back up, change, restore: page by page, but for the header's own bytes."""
    what = (kind, combination, mode)
    live = server.live()
    live.unlink(missing_ok=True)
    make(live, sql, *combination, mode)
    original = dbfile.page_bytes(live)
    name = server.create()["filename"]
    copy = server.backup_path(name)
    dbfile.assert_alone(copy)
    assert dbfile.page_bytes(copy) == original, what
    change(live, change_sql)
    assert dbfile.page_bytes(live) != original, what
    safety = server.restore(name)
    assert dbfile.page_bytes(live) == original, what
    assert dbfile.header(live)["journal"] == ((2, 2) if mode == "wal" else (1, 1))
    assert safety in server.backups(), what
    if kind != "module":
        assert findings(live) == [("ok",)], what
    assert server.details(name)["proof"]["result"] == "ok", what
    return name


def assert_verified(server, name, kind):
    facts = server.post(f"{BACKUP}/{name}/verify").json()
    assert facts["state"] == "good" and facts["proof"]["result"] == "ok", facts
    if kind in NOT_CHECKED:
        assert facts["proof"]["not_checked"], facts


def every_combination(server, kind, combinations, modes):
    sql, change_sql = {**SCHEMAS, **MORE_SCHEMAS}[kind]
    for i, combination in enumerate(combinations):
        for mode in modes(i):
            name = round_trip(server, kind, sql, change_sql, combination, mode)
        if combination in SOME:
            assert_verified(server, name, kind)


@pytest.mark.parametrize("kind", [*SCHEMAS, *MORE_SCHEMAS])
def test_any_schema_makes_the_round_trip(in_memory, report, kind):
    """The journal mode alternates."""
    combinations = EVERYTHING if kind in SCHEMAS else SOME
    every_combination(
        in_memory, kind, combinations, lambda i: [dbfile.JOURNAL_MODES[i % 2]]
    )
    report(f"P1, P3: {len(combinations)} round trips of a schema: {kind}")


@pytest.mark.soak
@pytest.mark.parametrize("kind", [*SCHEMAS, *MORE_SCHEMAS])
def test_any_schema_makes_the_round_trip_in_every_mode(in_memory, report, kind):
    modes = ("wal", "delete", "truncate", "persist")
    every_combination(in_memory, kind, EVERYTHING, lambda i: modes)
    n = len(EVERYTHING) * len(modes)
    report(f"Soak, P1, P3: {n} round trips of a schema: {kind}")


def test_control_a_restore_row_by_row_is_not_the_same(base):
    """What the comparison page by page would show: the same rows elsewhere."""
    path, other = base / "x.db", base / "y.db"
    make(path, SCHEMAS["rowid"][0], 4096, 0, "UTF-8", "delete")
    change(path, "DELETE FROM t WHERE id%3")
    dbfile.execute(path, f"VACUUM INTO '{other}'")
    assert dbfile.content_digest(path) == dbfile.content_digest(other)
    assert dbfile.page_bytes(path) != dbfile.page_bytes(other)
