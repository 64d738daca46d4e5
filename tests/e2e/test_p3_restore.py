"""P3, P4, P5: a restore is a transaction, loses nothing, and can be undone.

Four writers and two readers of an application go on through every restore,
with connections that they never open again.  No reader may see an error or a
state that is neither the old nor the restored one; every commit that a writer
was told of is in the safety backup or in the live database; restoring the
safety backup brings the exact content back.

The controls run the same check over three restores that are wrong, and must
report what those lose.
"""

import collections
import itertools
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

import app
import dbfile
from ledger import Ledger, is_balanced, journal
from server import wait_for

MATRIX = list(
    itertools.product(dbfile.JOURNAL_MODES, dbfile.PAGE_SIZES, dbfile.AUTO_VACUUM)
) + [("truncate", 4096, 0), ("persist", 4096, 0)]
RESTORES = 12  # for each line of the matrix; two of them undo
assert len(MATRIX) * RESTORES >= 200


class Totals:
    restores = undone = commits = looks = lost = gaps = mixed = errors = 0

    def __init__(self):
        self.longest_wait_s = collections.defaultdict(float)

    def waits(self):
        return ", ".join(f"{m} {s:.3f} s" for m, s in self.longest_wait_s.items())

    def line(self):
        return (
            f"P3: {self.restores} restores ({self.undone} undone exactly), "
            f"{self.mixed} mixed, {self.errors} errors, {self.lost} lost, "
            f"{self.gaps} gaps; {self.commits} commits, {self.looks} looks, "
            f"longest waits {self.waits()}"
        )


@pytest.fixture(scope="module")
def totals(report):
    value = Totals()
    yield value
    report(value.line())


class ByServer:
    """The restore under test, over HTTP."""

    def __init__(self, server):
        self.server = server

    def create(self):
        return self.server.create()["filename"]

    def restore(self, name):
        return self.server.restore(name)

    def path(self, name):
        return self.server.backup_path(name)


class Wrong:
    """Restores that are wrong, for the controls: done in this process."""

    def __init__(self, live, folder):
        self.live = live
        self.folder = folder
        self.n = 0

    def path(self, name):
        return self.folder / name

    def create(self):
        """A right copy, so that only the restore is wrong."""
        self.n += 1
        target = self.path(f"copy-{self.n}.db")
        with dbfile.opened(self.live) as source:
            copy = sqlite3.connect(target, isolation_level=None)
            source.backup(copy)
            copy.execute("PRAGMA journal_mode=delete")
            copy.close()
        return target.name

    def restore(self, name):
        safety = self.create()
        self.overwrite(self.path(name))
        return safety

    def forget_wal(self):
        for suffix in ("-wal", "-shm"):
            Path(f"{self.live}{suffix}").unlink(missing_ok=True)


class CopyOver(Wrong):
    """Writes over the live file and removes its WAL."""

    def overwrite(self, backup):
        shutil.copyfile(backup, self.live)
        self.forget_wal()


class Rename(Wrong):
    """Puts a new file in the place of the live one."""

    def overwrite(self, backup):
        shutil.copyfile(backup, f"{self.live}.new")
        Path(f"{self.live}.new").rename(self.live)
        self.forget_wal()


class LockLate(Wrong):
    """A proper transaction whose lock comes after the safety copy."""

    bank = None

    def overwrite(self, backup):
        self.bank.progress(2, wait_for)
        with dbfile.opened(backup, readonly=True) as source:
            with dbfile.opened(self.live) as live:
                source.backup(live)


def restore_once(way, bank, ledger, name):
    """One restore under writers, with what was acknowledged around it."""
    before = bank.acked()
    restored = journal(way.path(name))
    safety = way.restore(name)
    after = bank.acked()
    ledger.add(restored, journal(way.path(safety)), before, after)
    return safety


def undo_once(way, bank, ledger, live, name):
    """With the writers at rest: restore, and restore what was before."""
    bank.pause()
    old = dbfile.content_digest(live)
    safety = restore_once(way, bank, ledger, name)
    assert dbfile.content_digest(live) == dbfile.content_digest(way.path(name))
    restore_once(way, bank, ledger, safety)
    assert dbfile.content_digest(live) == old
    bank.resume()
    return safety


def run_restores(way, bank, live, seed, n):
    """n restores while the application goes on, the last two an undo."""
    rng = random.Random(seed)
    ledger = Ledger(len(bank.writers))
    names = [way.create()]
    for i in range(n - 2):
        bank.progress(2, wait_for)
        if i % 3 == 0:
            names.append(way.create())
        names.append(restore_once(way, bank, ledger, rng.choice(names)))
        assert is_balanced(way.path(names[-1]), app.TOTAL)
    bank.progress(2, wait_for)
    undo_once(way, bank, ledger, live, rng.choice(names))
    bank.progress(3, wait_for)
    return ledger, names


@pytest.mark.parametrize("mode,page_size,auto_vacuum", MATRIX)
def test_restore_under_writers(servers, totals, seed, mode, page_size, auto_vacuum):
    server = servers()
    live = server.live()
    live.parent.mkdir(parents=True, mode=0o700)
    app.make_bank(live, mode, page_size, auto_vacuum)
    inode = live.stat()
    server.start()
    with app.Bank(live, server.base, seed, mode) as bank:
        ledger, names = run_restores(ByServer(server), bank, live, seed, RESTORES)
        seen = bank.stop()
    ledger.close(journal(live, readonly=False), seen["commits"])
    note(totals, ledger, seen, mode)
    assert seen["mixed"] == [] and seen["errors"] == []
    assert ledger.count() == {"lost": 0, "gaps": 0}
    for name in names:
        dbfile.assert_backup_ok(server.backup_path(name))
    assert dbfile.integrity(live) == "ok"
    assert (dbfile.pragma(live, "journal_mode") == b"wal") == (mode == "wal")
    assert dbfile.pragma(live, "auto_vacuum") == auto_vacuum
    same = ("st_ino", "st_uid", "st_gid", "st_mode")
    assert [getattr(inode, k) for k in same] == [getattr(live.stat(), k) for k in same]


def note(totals, ledger, seen, mode):
    counts = ledger.count()
    totals.restores += len(ledger.windows) - 1
    totals.undone += 1
    totals.lost += counts["lost"]
    totals.gaps += counts["gaps"]
    totals.mixed += len(seen["mixed"])
    totals.errors += len(seen["errors"])
    totals.commits += sum(seen["commits"])
    totals.looks += seen["looks"]
    longest = max(totals.longest_wait_s[mode], seen["longest_wait_s"])
    totals.longest_wait_s[mode] = longest


@pytest.mark.parametrize("kind", [CopyOver, Rename, LockLate])
def test_control_wrong_restore_is_reported(base, report, seed, kind):
    live = base / "app.db"
    app.make_bank(live, "wal", 4096, 0)
    way = kind(live, base)
    ledger = Ledger(4)
    with app.Bank(live, base, seed, "wal") as bank:
        way.bank = bank
        first = way.create()
        for _ in range(3):
            bank.progress(3, wait_for)
            if not control_step(way, bank, ledger, first):
                break
        seen = bank.stop()
    wrong = judge_control(ledger, live, seen)
    report(f"P3 control {kind.__name__}: {wrong}")
    assert wrong["lost"] or wrong["mixed"] or wrong["errors"] or wrong["corrupt"]
    if kind is not CopyOver:
        assert wrong["lost"]


def control_step(way, bank, ledger, name):
    """One wrong restore; False once the database is too far gone to go on."""
    try:
        restore_once(way, bank, ledger, name)
        bank.progress(3, lambda done, what: wait_for(done, what, deadline_s=2))
        return True
    except (sqlite3.DatabaseError, AssertionError):
        return False


def judge_control(ledger, live, seen):
    try:
        corrupt = dbfile.integrity(live) != "ok"
        ledger.close(journal(live, readonly=False), seen["commits"])
        counts = ledger.count()
    except sqlite3.DatabaseError:
        corrupt, counts = True, {"lost": 0, "gaps": 0}
    return {
        **counts,
        "corrupt": corrupt,
        "mixed": len(seen["mixed"]),
        "errors": len(seen["errors"]),
    }
