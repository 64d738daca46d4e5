"""An application that uses a database while Holdfast works beside it.

Run as a program it is one process of a small bank, on the system's own SQLite:

    app.py writer DB ACKED NUMBER SEED JOURNAL [SYNC [HOW]]
                                 transfers between accounts
    app.py reader DB [ACCOUNTS]  checks what must always be true
    app.py watcher DB LOOKS      notes how the generation of the rows changes
    app.py shell DB TIMEOUT_S    runs the SQL that it is sent

It is told what to do by one JSON document a line on its input and answers
each with one line; it ends when its input does.  Imported it is the other end
of that: Process, and Bank for a whole application.

A writer counts its commits.  Number n stands in the table `journal`, written
in the same transaction, and, once COMMIT has returned, in the file ACKED: that
is what the application was told of, and what no restore may lose.
"""

import json
import os
import random
import select
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

ACCOUNTS = 1500
BALANCE = 1000
TOTAL = ACCOUNTS * BALANCE
BUSY_S = 20
LINE = 12  # bytes of a line in ACKED
SOURCE = "" if __name__ == "__main__" else Path(__file__).read_text()


def make_bank(path, journal, page_size, auto_vacuum, accounts=ACCOUNTS):
    """The database file of a bank in which nobody has moved anything yet."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute(f"PRAGMA page_size={page_size}")
    db.execute(f"PRAGMA auto_vacuum={auto_vacuum}")
    db.execute(f"PRAGMA journal_mode={journal}")
    db.execute("PRAGMA synchronous=OFF")
    db.executescript(
        f"""
        BEGIN;
        CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER, pad BLOB);
        CREATE INDEX account_balance ON account(balance);
        CREATE TABLE journal(writer INTEGER, seq INTEGER,
                             PRIMARY KEY(writer, seq)) WITHOUT ROWID;
        CREATE TABLE scratch(id INTEGER PRIMARY KEY, data BLOB);
        WITH RECURSIVE n(i) AS
            (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{accounts})
        INSERT INTO account SELECT i, {BALANCE}, randomblob(300) FROM n;
        COMMIT;
        """
    )
    db.close()


# ---- the processes ----


def commands(db, rest_s):
    """Yield between commands, as long as there is work to do.

    Looks at the input after every turn, resting there for rest_s.
    """
    paused = False
    while True:
        ready, _, _ = select.select([sys.stdin], [], [], None if paused else rest_s)
        if not ready:
            yield
            continue
        line = sys.stdin.readline()
        if not line or line.strip() == '"stop"':
            return
        paused = line.strip() == '"pause"'
        reply({"paused": paused, "open": db.in_transaction})


def reply(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def connect(path, timeout=BUSY_S):
    return sqlite3.connect(path, timeout=timeout, isolation_level=None)


def transfer(db, rng, number, seq, accounts):
    """One commit: money from one account to another, and some garbage."""
    source, target = rng.sample(range(1, accounts + 1), 2)
    amount = rng.randrange(1, 50)
    db.execute("BEGIN IMMEDIATE")
    move = "UPDATE account SET balance=balance+? WHERE id=?"
    db.execute(move, (-amount, source))
    db.execute(move, (amount, target))
    db.execute("INSERT INTO journal VALUES(?,?)", (number, seq))
    db.execute(
        "INSERT INTO scratch(data) VALUES(randomblob(?))", (rng.randrange(3000),)
    )
    if rng.randrange(20) == 0:
        db.execute("DELETE FROM scratch WHERE id<=(SELECT max(id)-60 FROM scratch)")
    db.execute("COMMIT")


HOW = {"accounts": ACCOUNTS, "rest_s": 0.002, "wal_autocheckpoint": 1000}


def writer(path, acked_path, number, seed, journal, sync="NORMAL", how="{}"):
    how = HOW | json.loads(how)
    db = connect(path)
    db.execute(f"PRAGMA journal_mode={journal}")
    db.execute(f"PRAGMA synchronous={sync}")
    db.execute(f"PRAGMA wal_autocheckpoint={how['wal_autocheckpoint']}")
    rng = random.Random(f"{seed}-{number}")
    acked = os.open(acked_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    seq, errors, waits = 0, [], []
    for _ in commands(db, how["rest_s"]):
        start = time.monotonic()
        try:
            transfer(db, rng, int(number), seq + 1, how["accounts"])
        except sqlite3.Error as error:
            errors.append(str(error))
            if db.in_transaction:
                db.execute("ROLLBACK")
            continue
        seq += 1
        os.write(acked, b"%011d\n" % seq)
        waits.append(time.monotonic() - start)
    waits.sort()
    reply(
        {
            "commits": seq,
            "errors": errors,
            "longest_wait_s": max(waits, default=0),
            "p99_wait_s": waits[len(waits) * 99 // 100] if waits else 0,
        }
    )


def look(db, accounts):
    """What a reader sees in one transaction; None if it is as it must be."""
    db.execute("BEGIN")
    total, n = db.execute("SELECT sum(balance), count(*) FROM account").fetchone()
    by_index = db.execute(
        "SELECT sum(balance) FROM account INDEXED BY account_balance"
    ).fetchone()[0]
    seqs = "SELECT writer, max(seq), count(*) FROM journal GROUP BY writer"
    before = db.execute(seqs).fetchall()
    after = db.execute(seqs).fetchall()
    db.execute("COMMIT")
    whole = accounts * BALANCE
    if (total, n, by_index) == (whole, accounts, whole) and before == after:
        return None
    return f"sum {total} of {n}, by index {by_index}, {before} then {after}"


def reader(path, accounts=ACCOUNTS):
    db = connect(path)
    looks, mixed, errors, longest = 0, [], [], 0
    for _ in commands(db, 0.005):
        start = time.monotonic()
        try:
            wrong = look(db, int(accounts))
        except sqlite3.Error as error:
            errors.append(str(error))
            if db.in_transaction:
                db.execute("ROLLBACK")
            continue
        looks += 1
        if wrong:
            mixed.append(wrong)
        longest = max(longest, time.monotonic() - start)
    reply({"looks": looks, "mixed": mixed, "errors": errors, "longest_wait_s": longest})


def watcher(path, looks_path):
    """Every row bears a generation: which ones are seen, and in what order.

    The file LOOKS grows by a byte with each look.
    """
    db = connect(path)
    looks = os.open(looks_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    seen, longest = [], 0
    for _ in commands(db, 0):
        start = time.monotonic()
        try:
            now = list(db.execute("SELECT min(gen), max(gen) FROM filler").fetchone())
        except sqlite3.Error as error:
            now = str(error)
        longest = max(longest, time.monotonic() - start)
        os.write(looks, b".")
        if not seen or seen[-1] != now:
            seen.append(now)
    reply({"seen": seen, "longest_wait_s": longest})


def shell(path, timeout):
    """Answer each line of SQL with its rows, or with the error's text."""
    db = connect(path, float(timeout))
    for line in sys.stdin:
        try:
            rows = db.execute(json.loads(line)).fetchall()
            reply({"rows": json.loads(json.dumps(rows, default=bytes.hex))})
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", None)
            reply({"error": str(error), "name": name})
    db.close()


# ---- the other end ----


class AppError(Exception):
    """What SQLite told the application; name is such as SQLITE_BUSY."""

    name = None


class Process:
    """A process of the application."""

    def __init__(self, role, *args, source=SOURCE, **popen):
        self.process = subprocess.Popen(
            # As text: another user may not reach this file's folder.
            ["/usr/bin/python3", "-I", "-c", source, role, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **popen,
        )

    @property
    def pid(self):
        return self.process.pid

    def send(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline()
        assert line, f"the application ended with {self.process.wait()}"
        return json.loads(line)

    def ask(self, message):
        self.send(message)
        return self.receive()

    def sql(self, statement):
        """For a shell: the rows, or AppError."""
        answer = self.ask(statement)
        if "error" in answer:
            error = AppError(answer["error"])
            error.name = answer["name"]
            raise error
        return answer["rows"]

    def value(self, statement):
        return self.sql(statement)[0][0]

    def close(self):
        """End of input: it closes its connection and ends."""
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


class Bank:
    """Four writers and two readers on one database.  A context manager.

    Writers rest for rest_s between their commits; HOW has what else is set.
    """

    def __init__(
        self, db, folder, seed, journal, writers=4, readers=2, sync="NORMAL", **how
    ):
        assert how.keys() <= HOW.keys()
        self.acked_files = [folder / f"acked-{i}" for i in range(writers)]
        for file in self.acked_files:
            file.write_bytes(b"")
        self.writers = [
            Process("writer", db, file, i, seed, journal, sync, json.dumps(how))
            for i, file in enumerate(self.acked_files)
        ]
        self.readers = [
            Process("reader", db, how.get("accounts", ACCOUNTS)) for _ in range(readers)
        ]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.writers + self.readers:
            if process.process.poll() is None:
                process.kill()

    def acked(self):
        """For each writer the number of its last acknowledged commit."""
        return [os.stat(file).st_size // LINE for file in self.acked_files]

    def progress(self, n, wait_for):
        """Wait until every writer has committed n times more."""
        goal = [count + n for count in self.acked()]
        wait_for(
            lambda: all(a >= g for a, g in zip(self.acked(), goal)),
            "the writers to go on",
        )

    def pause(self):
        self.tell(self.writers + self.readers, "pause")

    def resume(self):
        self.tell(self.writers + self.readers, "resume")

    @staticmethod
    def tell(processes, word):
        for process in processes:
            process.send(word)
        for process in processes:
            process.receive()

    def stop(self):
        """End the application; what its processes saw, summed up."""
        written = [process.ask("stop") for process in self.writers]
        read = [process.ask("stop") for process in self.readers]
        for process in self.writers + self.readers:
            process.close()
        return {
            "commits": [w["commits"] for w in written],
            "looks": sum(r["looks"] for r in read),
            "mixed": [m for r in read for m in r["mixed"]],
            "errors": [e for p in written + read for e in p["errors"]],
            "longest_wait_s": max(p["longest_wait_s"] for p in written + read),
            "p99_wait_s": max((w["p99_wait_s"] for w in written), default=0),
        }


if __name__ == "__main__":
    ROLES = {"writer": writer, "reader": reader, "watcher": watcher, "shell": shell}
    ROLES[sys.argv[1]](*sys.argv[2:])
