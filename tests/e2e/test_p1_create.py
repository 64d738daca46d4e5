"""P1: a backup is one committed state of the instant it was taken.

Four writers and two readers go on while backups are made.  Every backup is
sound and balanced, holds each writer's commits from the first to one of its
last without a hole, all that were acknowledged before the request, and none
that was begun after the answer.

A larger bank with busier writers is read no more than once for each
pass of the copy: no backup begins anew because somebody commits.

The controls are a plain copy of the file, which must be caught, and SQLite's
backup in steps without a read transaction, which must never end.
"""

import collections
import itertools
import shutil
import sqlite3

import pytest

import app
import dbfile
from ledger import is_balanced, journal
from server import wait_for

MATRIX = list(
    itertools.product(dbfile.JOURNAL_MODES, dbfile.PAGE_SIZES, dbfile.AUTO_VACUUM)
) + [("truncate", 4096, 0), ("persist", 4096, 0)]
BACKUPS = 12  # for each line of the matrix
assert len(MATRIX) * BACKUPS >= 200

# A bank of some 7 MB: backups in a run of the tests (with the lines of the matrix
# 200 in WAL mode), and in a long run.
LARGE = 20000
BANKS = {
    "wal": (92, 500),
    "delete": (8, 200),
    "truncate": (8, 200),
    "persist": (8, 200),
}
ACCOUNTS_OF_500_MB = 1_530_000
MODES = tuple(BANKS)

# Plain copies for the control, and the part of them that must prove wrong.
COPIES = {"wal": 30, "delete": 30, "truncate": 12, "persist": 12}
WRONG_COPIES = {"wal": 1 / 6, "delete": 2 / 3, "truncate": 2 / 3, "persist": 2 / 3}


class Totals:
    backups = commits = looks = 0

    def __init__(self):
        self.longest_wait_s = collections.defaultdict(float)

    def waits(self):
        return ", ".join(f"{m} {s:.3f} s" for m, s in self.longest_wait_s.items())

    def line(self):
        return (
            f"P1: {self.backups} backups, every one sound, balanced, without holes "
            f"and recent; {self.commits} commits, {self.looks} looks, "
            f"longest waits {self.waits()}"
        )


@pytest.fixture(scope="module")
def totals(report):
    value = Totals()
    yield value
    report(value.line())


def holes(found, before, after):
    """What is wrong with the journal of a copy taken between two counts."""
    wrong = []
    for number, (told, begun) in enumerate(zip(before, after)):
        seqs = sorted(found.get(number, ()))
        if seqs != list(range(1, len(seqs) + 1)):
            wrong.append(f"writer {number}: a hole in {len(seqs)}")
        if len(seqs) < told:
            wrong.append(f"writer {number}: {len(seqs)} of {told} acknowledged")
        if len(seqs) > begun + 1:
            wrong.append(f"writer {number}: {len(seqs)}, after {begun}")
    return wrong


@pytest.mark.parametrize("mode,page_size,auto_vacuum", MATRIX)
def test_backup_under_writers(servers, totals, seed, mode, page_size, auto_vacuum):
    server = servers()
    live = server.live()
    live.parent.mkdir(parents=True, mode=0o700)
    app.make_bank(live, mode, page_size, auto_vacuum)
    server.start()
    taken = []
    with app.Bank(live, server.base, seed, mode) as bank:
        for _ in range(BACKUPS):
            bank.progress(2, wait_for)
            before = bank.acked()
            taken.append((server.create(), before, bank.acked()))
        bank.progress(2, wait_for)
        seen = bank.stop()
    assert seen["mixed"] == [] and seen["errors"] == []
    for entry, before, after in taken:
        path = server.backup_path(entry["filename"])
        assert path.stat().st_size == entry["size"]
        dbfile.assert_backup_ok(path)
        assert is_balanced(path, app.TOTAL)
        assert holes(journal(path), before, after) == []
        assert dbfile.pragma(path, "page_size", readonly=True) == page_size
        assert dbfile.pragma(path, "auto_vacuum", readonly=True) == auto_vacuum
    assert (dbfile.pragma(live, "journal_mode") == b"wal") == (mode == "wal")
    totals.backups += len(taken)
    totals.commits += sum(seen["commits"])
    totals.looks += seen["looks"]
    longest = max(totals.longest_wait_s[mode], seen["longest_wait_s"])
    totals.longest_wait_s[mode] = longest


# ---- busy writers ----


def bytes_read(server):
    """All that the server's own process has read so far."""
    with open(f"/proc/{server.process.pid}/io", encoding="ascii") as file:
        return int(file.readline().split()[1])


def numbers(path):
    """As journal(), for many commits: each writer's highest, if none is missing."""
    rows = dbfile.query(
        path,
        "SELECT writer, min(seq), max(seq), count(*) FROM journal GROUP BY writer",
        readonly=True,
    )
    assert all((low, high) == (1, n) for _, low, high, n in rows), rows
    return {writer: range(1, n + 1) for writer, _, _, n in rows}


def backups_beside_busy_writers(server, totals, seed, mode, n):
    """Passes over the file: one; in rollback mode one more to compare the live
    file with the copy, and one over the patched copy for its SHA-256.
    """
    live = server.live()
    app.make_bank(live, mode, 4096, 0, LARGE)
    passes = 1 if mode == "wal" else 3
    total, during = LARGE * app.BALANCE, 0
    how = {
        "accounts": LARGE,
        "rest_s": 0.0005,
        "wal_autocheckpoint": 100,
    }
    with app.Bank(live, server.base, seed, mode, 2, 0, "OFF", **how) as bank:
        for _ in range(n):
            bank.progress(1, wait_for)
            before, read = bank.acked(), bytes_read(server)
            entry = server.create()
            after, read = bank.acked(), bytes_read(server) - read
            path = server.backup_path(entry["filename"])
            assert read < (passes + 0.5) * entry["size"], (read, entry)
            dbfile.assert_backup_ok(path)
            assert is_balanced(path, total)
            assert holes(numbers(path), before, after) == []
            during += sum(after) - sum(before)
            server.remove(entry["filename"])
        seen = bank.stop()
    assert seen["errors"] == []
    totals.backups += n
    totals.commits += sum(seen["commits"])
    longest = max(totals.longest_wait_s[mode], seen["longest_wait_s"])
    totals.longest_wait_s[mode] = longest
    return during


@pytest.mark.parametrize("mode", MODES)
def test_backup_beside_busy_writers(in_memory, totals, report, seed, mode):
    n = BANKS[mode][0]
    during = backups_beside_busy_writers(in_memory, totals, seed, mode, n)
    report(f"P1: {n} backups of 7 MB in {mode} mode beside {during} commits")


@pytest.mark.soak
@pytest.mark.parametrize("mode", MODES)
def test_many_backups_beside_busy_writers(in_memory, totals, report, seed, mode):
    n = BANKS[mode][1]
    during = backups_beside_busy_writers(in_memory, totals, seed, mode, n)
    report(f"Soak, P1: {n} backups of 7 MB in {mode} mode beside {during} commits")


@pytest.mark.soak
@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_waits_of_a_writer_during_a_large_backup(servers, report, seed, mode):
    """500 MB and a writer with some 900 commits a second.

    The WAL grows by what the application writes meanwhile (a commit changes
    ten pages or so), and by nothing else.
    """
    server = servers()
    live = server.live()
    live.parent.mkdir(parents=True, mode=0o700)
    app.make_bank(live, mode, 4096, 0, ACCOUNTS_OF_500_MB)
    server.start()
    how = {"accounts": ACCOUNTS_OF_500_MB, "rest_s": 0.001}
    wal = live.with_name("app.db-wal")
    with app.Bank(live, server.base, seed, mode, 1, 0, **how) as bank:
        bank.progress(100, wait_for)
        before = bank.acked()
        entry = server.create()
        after = bank.acked()
        grown = wal.stat().st_size if wal.exists() else 0
        seen = bank.stop()
    path = server.backup_path(entry["filename"])
    assert entry["size"] > 500_000_000
    dbfile.assert_backup_ok(path)
    assert is_balanced(path, ACCOUNTS_OF_500_MB * app.BALANCE)
    assert holes(numbers(path), before, after) == []
    assert seen["errors"] == []
    report(
        f"Soak, P1, {mode}: {sum(after) - sum(before)} commits during a backup of 500 "
        f"MB, p99 {seen['p99_wait_s'] * 1000:.1f} ms, longest "
        f"{seen['longest_wait_s']:.2f} s, WAL {grown >> 20} MiB"
    )
    assert grown < (sum(after) - sum(before) + 1000) * 16 * 4120


def test_control_an_older_copy_is_not_recent(base, seed):
    """Sound and balanced, but of a moment before the request."""
    live, copy = base / "app.db", base / "copy.db"
    app.make_bank(live, "wal", 4096, 0)
    with app.Bank(live, base, seed, "wal", readers=0) as bank:
        bank.progress(1, wait_for)
        dbfile.execute(live, f"VACUUM INTO '{copy}'")
        taken = bank.acked()
        bank.progress(2, wait_for)
        assert dbfile.integrity(copy) == "ok" and is_balanced(copy, app.TOTAL)
        assert holes(journal(copy), bank.acked(), bank.acked()) != []
        assert holes(journal(copy), [0] * 4, [0] * 4) != []
        assert holes(journal(copy), [0] * 4, taken) == []


class Enough(Exception):
    """A backup that has been given steps enough."""


def steps_of_backup(live, bank, pinned, limit):
    """SQLite's backup, 200 pages a step, a commit after each step.

    Returns whether it ended, its steps, and how often it began anew.
    """
    left = []

    def progress(status, remaining, n_pages):
        left.append(remaining)
        if len(left) >= limit:
            raise Enough
        bank.progress(1, wait_for)

    with dbfile.opened(live) as source:
        target = sqlite3.connect(":memory:")
        if pinned:
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM account").fetchone()
        try:
            source.backup(target, pages=200, progress=progress, sleep=0.001)
            ended = True
        except Enough:
            ended = False
        target.close()
    restarts = sum(b >= a for a, b in zip(left, left[1:]))
    return ended, len(left), restarts


@pytest.mark.parametrize("pinned", [False, True], ids=["unpinned", "pinned"])
def test_control_backup_in_steps_ends_only_in_a_transaction(base, report, seed, pinned):
    live = base / "app.db"
    app.make_bank(live, "wal", 4096, 0, LARGE)
    needed = live.stat().st_size // 4096 // 200 + 1
    with app.Bank(live, base, seed, "wal", 2, 0, accounts=LARGE) as bank:
        bank.progress(1, wait_for)
        ended, steps, restarts = steps_of_backup(live, bank, pinned, 10 * needed)
    report(
        f"P1 control: SQLite's backup {'in' if pinned else 'without'} a transaction: "
        f"{steps} steps where {needed} are needed, {restarts} restarts"
    )
    assert ended == pinned
    assert (restarts == 0) == pinned


# ---- the control ----


def is_right(path, before, after):
    try:
        return (
            dbfile.integrity(path) == "ok"
            and is_balanced(path, app.TOTAL)
            and holes(journal(path), before, after) == []
        )
    except sqlite3.DatabaseError:
        return False


def plain_copy(source, target, bank):
    """Copy a file in two halves, with commits in between, as happens to cp."""
    half = source.stat().st_size // 2
    with open(source, "rb") as reading, open(target, "wb") as writing:
        writing.write(reading.read(half))
        bank.progress(1, wait_for)
        shutil.copyfileobj(reading, writing)


@pytest.mark.parametrize("mode", MODES)
def test_control_plain_copy_is_caught(base, report, seed, mode):
    live = base / "app.db"
    app.make_bank(live, mode, 4096, 0)
    wrong, n = 0, COPIES[mode]
    with app.Bank(live, base, seed, mode, writers=2, readers=0) as bank:
        for i in range(n):
            bank.progress(2, wait_for)
            copy, before = base / f"copy-{i}.db", bank.acked()
            plain_copy(live, copy, bank)
            wrong += not is_right(copy, before, bank.acked())
    report(f"P1 control: of {n} plain copies in {mode} mode {wrong} were wrong")
    assert wrong >= n * WRONG_COPIES[mode]
