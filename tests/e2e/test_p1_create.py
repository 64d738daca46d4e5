"""P1: a backup is one committed state of the instant it was taken.

Four writers and two readers go on while backups are made.  Every backup is
sound and balanced, holds each writer's commits from the first to one of its
last without a hole, all that were acknowledged before the request, and none
that was begun after the answer.

The control is a plain copy of the file, which must be caught.
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


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_control_plain_copy_is_caught(base, report, seed, mode):
    live = base / "app.db"
    app.make_bank(live, mode, 4096, 0)
    wrong, n = 0, 30
    with app.Bank(live, base, seed, mode, writers=2, readers=0) as bank:
        for i in range(n):
            bank.progress(2, wait_for)
            copy, before = base / f"copy-{i}.db", bank.acked()
            plain_copy(live, copy, bank)
            wrong += not is_right(copy, before, bank.acked())
    report(f"P1 control: of {n} plain copies in {mode} mode {wrong} were wrong")
    assert wrong >= 1
