"""P1, P3, P5: random histories of an application, backed up and restored.

An application keeps one connection open and does whatever applications do to
a database: tables and indexes come and go, it vacuums, checkpoints, changes
the journal mode, the auto-vacuum mode, the page size.  In between backups are
made and restored at random.  Each must bring back exactly what was there, for
the application's connection and for a new one, and so must the safety backup.
"""

import random

import pytest

import dbfile
from app import AppError

STEPS = 120
LONG = 4000
KEPT = 12  # backups at a time


class History:
    """One application, and what its database held at each backup."""

    def __init__(self, server, application, rng):
        self.server = server
        self.application = application
        self.rng = rng
        self.backups = {}  # filename: digest of the content
        self.restores = 0

    def digest(self):
        return dbfile.content_digest(self.server.live())

    def tables(self):
        sql = "SELECT name FROM sqlite_master WHERE type='table' AND name LIKE 't%'"
        return [row[0] for row in self.application.sql(sql)]

    def statement(self):
        rng, tables = self.rng, self.tables()
        n = rng.randrange(1, 400)
        new = [
            f"CREATE TABLE t{rng.randrange(10**6)}(a INTEGER PRIMARY KEY, b, c)",
            f"PRAGMA user_version={n}",
            "VACUUM",
            "PRAGMA incremental_vacuum(5)",
            f"PRAGMA wal_checkpoint({rng.choice(['PASSIVE', 'RESTART', 'TRUNCATE'])})",
            f"PRAGMA journal_mode={rng.choice(['wal', 'delete', 'truncate', 'persist'])}",
            f"PRAGMA auto_vacuum={rng.randrange(3)}; VACUUM",
            f"PRAGMA page_size={rng.choice([512, 4096, 16384])}; VACUUM",
            f"PRAGMA cache_size={rng.choice([5, 2000])}",
        ]
        if not tables:
            return rng.choice(new)
        table = rng.choice(tables)
        rows = (
            f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{n})"
        )
        old = [
            f"{rows} INSERT INTO {table}(b, c) SELECT i, randomblob(i) FROM n",
            f"{rows} INSERT INTO {table}(b, c) SELECT -i, zeroblob(9*i) FROM n",
            f"UPDATE {table} SET c=randomblob({n}) WHERE a%{1 + n % 7}=0",
            f"DELETE FROM {table} WHERE a%{1 + n % 4}=0",
            f"DELETE FROM {table}",
            f"DROP TABLE {table}",
            f"CREATE INDEX IF NOT EXISTS i_{table} ON {table}(b)",
            f"BEGIN; DELETE FROM {table}; ROLLBACK",
        ]
        return rng.choice(old if rng.randrange(3) else new)

    def application_step(self):
        for part in self.statement().split("; "):
            try:
                self.application.sql(part)
            except AppError as error:
                assert "locked" in str(error), (part, error)  # a mode in use

    def create(self):
        name = self.server.create()["filename"]
        self.backups[name] = self.digest()
        path = self.server.backup_path(name)
        assert dbfile.content_digest(path, readonly=True) == self.backups[name]

    def restore(self):
        name = self.rng.choice(list(self.backups))
        before = self.digest()
        safety = self.server.restore(name)
        self.restores += 1
        assert self.digest() == self.backups[name]
        assert self.application.value("PRAGMA integrity_check") == "ok"
        assert len(self.tables()) == len(
            dbfile.query(
                self.server.live(),
                "SELECT 1 FROM sqlite_master WHERE type='table' AND name LIKE 't%'",
            )
        )
        self.backups[safety] = before
        path = self.server.backup_path(safety)
        assert dbfile.content_digest(path, readonly=True) == before
        assert dbfile.integrity(path, readonly=True) == "ok"

    def step(self):
        choice = self.rng.randrange(10)
        if choice == 0 or not self.backups:
            self.create()
        elif choice == 1:
            self.restore()
        else:
            self.application_step()
        while len(self.backups) > KEPT:
            name = self.rng.choice(list(self.backups))
            self.server.remove(name)
            del self.backups[name]


def run(server, shells, seed, report, n):
    live = server.prepare(dbfile.make(server.base / "new.db", 20))
    history = History(server, shells(live), random.Random(seed))
    for _ in range(n):
        history.step()
    assert history.restores
    report(f"Histories: {n} steps, {history.restores} restores, each exact")


def test_random_histories_come_back_exactly(in_memory, shells, seed, report):
    run(in_memory, shells, seed, report, STEPS)


@pytest.mark.soak
def test_long_histories_come_back_exactly(in_memory, shells, seed, report):
    run(in_memory, shells, seed, report, LONG)
