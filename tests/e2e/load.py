"""Load: many clients at once, and applications on many databases.

Run as a program it is one process of it:

    load.py herd PORT NAME N      N connections that take their time
    load.py probe PORT PATH       asks for a path again and again, with a watch
    load.py fleet DB...           commits to one database after the other
    load.py pace DB RATE          RATE commits a second, and a reader that pins
                                  the WAL for 30 s of each minute

It is told what to do by one JSON document a line on its input, as app.py is,
and tells what it saw when it is told to stop.  Imported it has the other ends
of these, and requests that are sent all at once.
"""

import http.client
import json
import select
import selectors
import socket
import sqlite3
import sys
import time
from pathlib import Path

ENTRIES = 200  # that a database of a fleet keeps
TICKS = 20  # in a second, in which each slow connection has its turn
SOURCE = "" if __name__ == "__main__" else Path(__file__).read_text()


def reply(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def command(rest_s):
    """The next command, or None when there is none after rest_s."""
    if not select.select([sys.stdin], [], [], rest_s)[0]:
        return None
    line = sys.stdin.readline()
    return json.loads(line) if line else "stop"


# ---- slow clients ----

HOST = "Host: localhost\r\n"
SLOW = {
    "idle": ("", ""),
    "headers": (f"GET /api/v1/backup HTTP/1.1\r\n{HOST}X-Slow: ", "x"),
    "body": (
        f"POST /api/v1/databases HTTP/1.1\r\n{HOST}Content-Type: application/json"
        "\r\nContent-Length: 4000\r\n\r\n",
        " ",
    ),
    "reader": (f"GET /api/v1/backup/NAME/download HTTP/1.1\r\n{HOST}\r\n", ""),
}


class Slow:
    """One connection that sends, or takes, a byte a second."""

    def __init__(self, port, kind, name):
        first, self.drip = SLOW[kind]
        self.kind = kind
        self.sock = socket.socket()
        if kind == "reader":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect(("127.0.0.1", port))
        self.sock.sendall(first.replace("NAME", name).encode())
        self.sock.setblocking(False)
        self.since = time.monotonic()

    def turn(self):
        """True while the connection lives."""
        try:
            if self.drip:
                self.sock.send(self.drip.encode())
            return self.sock.recv(1) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False


def herd(port, name, n):
    """Keep n of them open, as many of each kind; "hold": open no more."""
    kinds = list(SLOW)
    lanes = [[] for _ in range(TICKS)]
    closed = dict.fromkeys(kinds, 0)
    longest = dict.fromkeys(kinds, 0.0)
    opened, holding, word = 0, False, None
    while word != "stop":
        start = time.monotonic()
        lane = lanes[0]
        lanes.append(lanes.pop(0))
        for slow in lane[:]:
            if not slow.turn():
                slow.sock.close()
                lane.remove(slow)
                closed[slow.kind] += 1
                lived = time.monotonic() - slow.since
                longest[slow.kind] = max(longest[slow.kind], lived)
        while not holding and len(lane) < int(n) // TICKS:
            lane.append(Slow(int(port), kinds[opened % len(kinds)], name))
            opened += 1
        word = command(max(0.0, start + 1 / TICKS - time.monotonic()))
        holding = holding or word == "hold"
        if word is not None:
            still = sum(map(len, lanes))
            reply({"opened": opened, "open": still, "closed": closed, "longest_s": longest})


# ---- a client with a watch ----


def probe(port, path):
    """Ask again and again, every tenth time on a new connection."""
    times, failed = [], []
    conn = None
    while command(0.01) is None:
        if conn is None or len(times) % 10 == 0:
            conn = http.client.HTTPConnection("127.0.0.1", int(port), timeout=90)
        start = time.monotonic()
        try:
            conn.request("GET", path)
            answer = conn.getresponse()
            answer.read()
            if answer.status != 200:
                failed.append(str(answer.status))
        except (OSError, http.client.HTTPException) as error:
            failed.append(repr(error))
            conn = None
        times.append((time.monotonic() - start) * 1000)
    times.sort()
    n = len(times)
    reply(
        {
            "n": n,
            "failed": failed,
            "p50": times[n // 2],
            "p99": times[n * 99 // 100],
            "max": times[-1],
        }
    )


# ---- applications ----


def make_entries(path, journal):
    """A database of a fleet."""
    path.parent.mkdir(mode=0o700, parents=True)
    db = sqlite3.connect(path, isolation_level=None)
    db.executescript(
        f"""
        PRAGMA journal_mode={journal};
        PRAGMA synchronous=OFF;
        CREATE TABLE entry(seq INTEGER PRIMARY KEY, data BLOB);
        CREATE TABLE total(n INTEGER);
        INSERT INTO total VALUES(0);
        """
    )
    db.close()


def commit(db):
    db.execute("BEGIN IMMEDIATE")
    n = db.execute("SELECT n FROM total").fetchone()[0] + 1
    db.execute("INSERT INTO entry VALUES(?,randomblob(?))", (n, n * 37 % 3000))
    db.execute("DELETE FROM entry WHERE seq<=?", (n - ENTRIES,))
    db.execute("UPDATE total SET n=?", (n,))
    db.execute("COMMIT")


def fleet(*paths):
    """One commit to each, again and again."""
    dbs = [sqlite3.connect(path, timeout=60, isolation_level=None) for path in paths]
    commits, errors, longest = 0, [], 0.0
    while command(0.01) is None:
        for db in dbs:
            start = time.monotonic()
            try:
                commit(db)
                commits += 1
            except sqlite3.Error as error:
                errors.append(str(error))
                if db.in_transaction:
                    db.execute("ROLLBACK")
            longest = max(longest, time.monotonic() - start)
    reply({"commits": commits, "errors": errors, "longest_wait_s": longest})


def pace(path, rate):
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    db.execute("PRAGMA synchronous=NORMAL")
    reader = sqlite3.connect(path, timeout=60, isolation_level=None)
    commits, errors, start, word = 0, [], time.monotonic(), None
    while word != "stop":
        passed = time.monotonic() - start
        pinned = passed % 60 < 30
        try:
            if pinned and not reader.in_transaction:
                reader.execute("BEGIN")
                reader.execute("SELECT n FROM total").fetchone()
            elif reader.in_transaction and not pinned:
                reader.execute("COMMIT")
            due = int(passed * int(rate)) - commits
            for _ in range(min(due, int(rate))):
                commit(db)
                commits += 1
        except sqlite3.Error as error:
            errors.append(str(error))
            if db.in_transaction:
                db.execute("ROLLBACK")
        word = command(0.01)
        if word is not None:
            reply({"commits": commits, "errors": errors, "passed_s": passed})


def entries_problem(db):
    """What is wrong with a state of such a database, or None."""
    n = db.execute("SELECT n FROM total").fetchone()[0]
    seen = db.execute("SELECT count(*), ifnull(max(seq),0) FROM entry").fetchone()
    if tuple(seen) == (min(n, ENTRIES), n):
        return None
    return f"total {n}, but {seen}"


# ---- the other ends ----


def ask_all(port, requests, timeout=90):
    """Send all requests, (method, target), at once; each answer's bytes."""
    selector = selectors.DefaultSelector()
    answers = [b""] * len(requests)
    for i, (method, target) in enumerate(requests):
        sock = socket.create_connection(("127.0.0.1", port), timeout)
        text = f"{method} {target} HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"
        sock.sendall(text.encode())
        selector.register(sock, selectors.EVENT_READ, i)
    while selector.get_map():
        ready = selector.select(timeout)
        assert ready, f"{len(selector.get_map())} requests without an answer"
        for key, _ in ready:
            more = key.fileobj.recv(1 << 16)
            answers[key.data] += more
            if not more:
                selector.unregister(key.fileobj)
                key.fileobj.close()
    return answers


if __name__ == "__main__":
    {"herd": herd, "probe": probe, "fleet": fleet, "pace": pace}[sys.argv[1]](*sys.argv[2:])
