"""P3: what a running application sees of a restore, and of the naive ways.

Two watchers look without a rest at rows that all bear a generation, and a
writer commits beside them.  Each restore is one flip for each watcher: never
two generations at once, never the old one again, never an error.  Before the
first page of the live file is written the safety backup is durable.

The controls are the ways that suggest themselves, each of which fails in a way
of its own.
"""

import os
import re
import shutil
import signal
import sqlite3

import pytest

import dbfile
from app import AppError, Process
from server import BACKUP, wait_for
from test_locks import whole_lines

FLIPS = {"wal": 10, "delete": 10, "truncate": 4, "persist": 4}
MIB = 1 << 20


def fill(path, mib, mode):
    """All rows of generation 1, and a table for the writer."""
    sql = f"""
        CREATE TABLE filler(id INTEGER PRIMARY KEY, gen INTEGER, data BLOB);
        CREATE INDEX filler_gen ON filler(gen);
        CREATE TABLE tick(n INTEGER);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{mib * 256})
        INSERT INTO filler SELECT i, 1, randomblob(3500) FROM n;
    """
    return dbfile.make(path, 10, journal=mode, sql=sql)


class Watch:
    """Two watchers of a database.  A context manager."""

    def __init__(self, live, folder):
        self.files = [folder / f"looks-{i}" for i in range(2)]
        for file in self.files:
            file.write_bytes(b"")
        self.watchers = [Process("watcher", live, file) for file in self.files]

    def __enter__(self):
        self.look()
        return self

    def __exit__(self, *error):
        for process in self.watchers:
            if process.process.poll() is None:
                process.kill()

    def look(self):
        """Wait until each has looked again, from the beginning to the end."""
        goal = [file.stat().st_size + 2 for file in self.files]
        wait_for(
            lambda: all(f.stat().st_size >= g for f, g in zip(self.files, goal)),
            "the watchers to look",
        )

    def end(self):
        """What each has seen, one after the other, and the longest wait."""
        answers = [process.ask("stop") for process in self.watchers]
        for process in self.watchers:
            process.close()
        return [a["seen"] for a in answers], max(a["longest_wait_s"] for a in answers)


def two_generations(server, writer):
    """Backups of generation 1 and 2; the live database is in 2."""
    first = server.create()["filename"]
    writer.sql("UPDATE filler SET gen=2, data=randomblob(3500)")
    return first, server.create()["filename"]


def flips(server, watch, writer, names, n):
    """n restores, in turn of either generation; all that must be seen."""
    expected = [2]
    for i in range(n):
        watch.look()
        writer.sql("INSERT INTO tick VALUES(1)")
        server.restore(names[i % 2])
        writer.sql("INSERT INTO tick VALUES(2)")
        expected.append(1 + i % 2)
        assert writer.value("SELECT max(gen) FROM filler") == expected[-1]
    watch.look()
    return [[gen, gen] for gen in expected]


@pytest.mark.parametrize("mode", FLIPS)
def test_each_restore_is_one_flip(servers, shells, base, report, mode):
    server = servers()
    live = server.prepare(fill(base / "x.db", 8, mode))
    server.start()
    writer = shells(live)
    names = two_generations(server, writer)
    with Watch(live, base) as watch:
        expected = flips(server, watch, writer, names, FLIPS[mode])
        seen, longest = watch.end()
    assert seen == [expected, expected]
    report(
        f"P3: {FLIPS[mode]} restores of 8 MiB in {mode} mode, as many flips for each "
        f"watcher, no other state, no error; longest look {longest:.3f} s"
    )


def test_little_that_differs_is_little_that_is_written(servers, shells, base):
    """One row in a hundred: the WAL grows by about as much, not by all."""
    server = servers()
    live = server.prepare(fill(base / "x.db", 16, "wal"))
    server.start()
    writer = shells(live)
    name = server.create()["filename"]
    writer.sql("PRAGMA wal_autocheckpoint=0")
    writer.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    writer.sql("UPDATE filler SET data=zeroblob(3500) WHERE id%100=0")
    reader = shells(live)  # keeps the WAL from being given back
    reader.sql("BEGIN")
    reader.sql("SELECT count(*) FROM tick")
    wal = live.with_name("app.db-wal")
    before = wal.stat().st_size
    server.restore(name)
    grown = wal.stat().st_size - before
    assert 0 < grown < 16 * MIB // 20, grown
    assert reader.value("SELECT count(*) FROM filler WHERE data=zeroblob(3500)") == 40
    reader.sql("COMMIT")
    assert reader.value("SELECT count(*) FROM filler WHERE data=zeroblob(3500)") == 0


@pytest.mark.soak
@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_flips_of_a_large_database(servers, shells, base, report, mode):
    """500 MiB: everything differs, then one row in a hundred."""
    server = servers()
    live = server.prepare(fill(base / "x.db", 500, mode))
    server.start()
    writer = shells(live)
    names = two_generations(server, writer)
    with Watch(live, base) as watch:
        expected = flips(server, watch, writer, names, 2)
        seen, longest = watch.end()
    assert seen == [expected, expected]
    report(f"Soak, P3, {mode}: 500 MiB, all differs: longest look {longest:.2f} s")
    writer.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    writer.sql("UPDATE filler SET data=zeroblob(3500) WHERE id%100=0")
    writer.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    reader = shells(live)  # keeps the WAL from being given back
    if mode == "wal":
        reader.sql("BEGIN")
        reader.sql("SELECT count(*) FROM tick")
    with Watch(live, base) as watch:
        server.restore(names[1])
        watch.look()
        _, longest = watch.end()
    wal = live.with_name("app.db-wal")
    grown = wal.stat().st_size if mode == "wal" else 0
    report(
        f"Soak, P3, {mode}: 500 MiB, 1 % differs: longest look {longest:.2f} s, "
        f"WAL {grown / MIB:.1f} MiB"
    )
    assert grown < 20 * MIB
    assert writer.value("SELECT count(*) FROM filler WHERE data=zeroblob(3500)") == 0


def test_a_transaction_begun_before_cannot_write_after(servers, shells, base):
    """In WAL mode its snapshot is old: the restore is not lost by it."""
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db"))
    server.start()
    name = server.create()["filename"]
    application = shells(live, timeout=0)
    application.sql("DELETE FROM item WHERE id>7")
    application.sql("BEGIN")
    assert application.value("SELECT count(*) FROM item") == 7
    server.restore(name)
    with pytest.raises(AppError) as caught:
        application.sql("DELETE FROM item")
    assert caught.value.name == "SQLITE_BUSY_SNAPSHOT"
    application.sql("ROLLBACK")
    assert application.value("SELECT count(*) FROM item") == 200


# ---- the order of the steps ----

WRITE = re.compile(r"^\d+ +pwrite(?:64|v|v2)?\(\d+<([^>]*)>.* = \d+")
SYNC = re.compile(r"^\d+ +f(?:data)?sync\(\d+<([^>]*)>\) += 0")
RENAME = re.compile(r'^\d+ +rename\w*\(.*"[^"]*", .*"(app_[0-9_]+\.db)".* = 0')


def order_of_steps(lines, data):
    """The durable steps of a restore until the live file is first written."""
    live = f"{data}/databases/default/app.db"
    steps = []
    for line in lines:
        write, sync, rename = WRITE.match(line), SYNC.match(line), RENAME.match(line)
        if write and write.group(1) in (live, live + "-wal"):
            return steps + ["write live"]
        if sync and sync.group(1).startswith(f"{data}/tmp/"):
            steps.append("sync copy")
        elif sync and sync.group(1) == f"{data}/backups/default":
            steps.append("sync folder")
        elif rename:
            steps.append("publish")
    return steps


def is_durable_before(steps):
    """Whether copy, name and folder are synced before the live file is touched."""
    if steps[-1:] != ["write live"] or "publish" not in steps:
        return False
    at = steps.index("publish")
    return "sync copy" in steps[:at] and "sync folder" in steps[at:]


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_safety_backup_is_durable_before_the_first_page(servers, base, mode):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace = base / "trace"
    calls = "trace=/^(pwrite.*|fsync|fdatasync|rename.*)$"
    server = servers(
        wrapper=["strace", "-f", "-y", "-o", str(trace), "-e", calls],
        env={"ASAN_OPTIONS": "detect_leaks=0"},
    )
    live = server.prepare(dbfile.make(base / "x.db", rows=2000, journal=mode))
    server.start()
    name = server.create()["filename"]
    dbfile.execute(live, "UPDATE item SET text='other'||id")
    begun = len(trace.read_text().splitlines())
    server.restore(name)
    for pid in server.children():
        os.kill(pid, signal.SIGTERM)
    server.join(0)
    lines = trace.read_text().splitlines()[begun:]
    steps = order_of_steps(whole_lines(lines), server.data.resolve())
    assert is_durable_before(steps), steps


def test_control_a_wrong_order_is_seen():
    right = ["sync copy", "publish", "sync folder", "write live"]
    assert is_durable_before(right)
    for i in range(len(right)):
        assert not is_durable_before(right[:i] + right[i + 1 :]), i
    for i in range(len(right) - 1):
        wrong = right[:i] + [right[i + 1], right[i]] + right[i + 2 :]
        assert not is_durable_before(wrong), wrong


# ---- the naive ways ----


def backed_up(base, mode="wal", **options):
    """A live database of 200 rows and a copy of it in rollback mode."""
    live = dbfile.make(base / "app.db", journal=mode, **options)
    copy = base / "copy.db"
    dbfile.execute(live, f"VACUUM INTO '{copy}'")
    return live, copy


def overwrite(live, copy):
    with open(live, "r+b") as file:
        file.write(copy.read_bytes())
        file.truncate()


def test_control_overwriting_under_a_running_application_corrupts(base, shells, report):
    live = fill(base / "app.db", 2, "wal")
    dbfile.execute(live, f"VACUUM INTO '{base / 'copy.db'}'")
    application = shells(live)
    application.sql("UPDATE filler SET gen=2, data=randomblob(3500)")
    overwrite(live, base / "copy.db")
    for suffix in ("-wal", "-shm"):
        live.with_name("app.db" + suffix).unlink()
    wrong = application.ask("PRAGMA integrity_check")
    wrong = wrong.get("error") or str(wrong["rows"][0][0])
    try:
        application.sql("INSERT INTO tick VALUES(1)")
        application.sql("PRAGMA wal_checkpoint")
        application.close()
        after = dbfile.integrity(live)
    except AppError as error:
        after = str(error)
    report(f"P3 control, overwritten: {wrong.splitlines()[0]!r}, then {after[:60]!r}")
    assert wrong != "ok" or after != "ok"


def test_control_a_renamed_file_is_never_seen_by_the_application(base, shells):
    live, copy = backed_up(base)
    application = shells(live)
    application.sql("DELETE FROM item WHERE id>7")
    copy.rename(live)
    assert application.value("SELECT count(*) FROM item") == 7
    application.sql("INSERT INTO item(text) VALUES('acknowledged')")
    application.kill()
    for suffix in ("-wal", "-shm"):  # of the file that is gone
        live.with_name("app.db" + suffix).unlink(missing_ok=True)
    found = dbfile.query(live, "SELECT count(*) FROM item WHERE text='acknowledged'")
    assert found == [(0,)]


def test_control_a_stale_wal_is_replayed_over_a_copied_file(base, shells):
    """The application was killed, and nobody looks after its WAL."""
    live = fill(base / "app.db", 2, "wal")
    dbfile.execute(live, f"VACUUM INTO '{base / 'copy.db'}'")
    application = shells(live)
    application.sql("PRAGMA wal_autocheckpoint=0")
    application.sql("UPDATE filler SET gen=2 WHERE id%2")
    application.kill()
    shutil.copyfile(base / "copy.db", live)
    wanted = dbfile.content_digest(base / "copy.db")
    try:
        same = dbfile.content_digest(live) == wanted
    except sqlite3.DatabaseError:
        same = False
    assert not same


def test_control_an_old_schema_cookie_lets_a_row_into_the_wrong_table(base, shells):
    """SQLite's own backup, and then the cookie that the backup had."""
    live, copy = backed_up(base)
    first = shells(live)
    first.sql("CREATE TABLE x(id INTEGER PRIMARY KEY, secret TEXT)")
    first.sql("INSERT INTO x VALUES(1, 'old')")
    cached = first.value("PRAGMA schema_version")
    with dbfile.opened(copy, readonly=True) as source, dbfile.opened(live) as target:
        source.backup(target)
        target.execute("CREATE TABLE y(p TEXT, q INTEGER, r INTEGER)")
        target.execute("INSERT INTO y VALUES('yy', 1, 2)")
        target.execute(f"PRAGMA schema_version={cached}")
    first.sql("INSERT INTO x VALUES(77, 'ghost')")
    second = shells(live)
    assert second.value("SELECT count(*) FROM y") == 2
    assert second.value("PRAGMA integrity_check") == "ok"


def test_control_sqlites_backup_refuses_another_page_size_in_wal_mode(base):
    live = dbfile.make(base / "app.db")
    copy = dbfile.make(base / "copy.db", page_size=8192, journal="delete")
    with dbfile.opened(copy, readonly=True) as source, dbfile.opened(live) as target:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            source.backup(target)


def test_control_sqlites_backup_brings_the_journal_mode_along(base):
    live = dbfile.make(base / "app.db", journal="delete")
    copy = dbfile.make(base / "copy.db", journal="wal")
    with dbfile.opened(copy) as source, dbfile.opened(live) as target:
        source.backup(target)
    assert dbfile.header(live)["journal"] == (2, 2)


def test_a_locked_database_is_given_up_and_stays_as_it_was(servers, shells, base):
    """The application holds the write lock all the time."""
    server = servers(args=["--busy-timeout", "1"])
    live = server.prepare(dbfile.make(base / "x.db", journal="delete"))
    server.start()
    name = server.create()["filename"]
    dbfile.execute(live, "UPDATE item SET text='later' WHERE id=1")
    before = dbfile.state_of(live)
    application = shells(live)
    application.sql("BEGIN IMMEDIATE")
    response = server.post(f"{BACKUP}/{name}/restore")
    assert (response.status, response.error) == (503, "BUSY")
    assert server.backups() == [name]
    application.sql("ROLLBACK")
    application.close()
    assert dbfile.state_of(live) == before
