"""P2: changes of the catalog survive the loss of power, or never happened.

Databases are created, registered, removed and switched to on an image that is
shut down in the middle, before each call that makes something durable, and
after the answer.  What was acknowledged is there afterwards, what was not is
whole or has left nothing.
"""

import collections
import os
import random
import threading

import pytest

import dbfile
from power import DURABLE_CALLS, Cut, Tracer, place
from server import DATABASES
from test_power import ALL_FILESYSTEMS, FILESYSTEMS

OPERATIONS = ("create", "register", "remove", "unregister", "switch")
ANSWERED = 1  # of each operation, on each filesystem
RANDOM = 2


class Databases:
    """What must be listed: for each database its path and its rows."""

    def __init__(self, entries, current):
        self.entries = entries
        self.current = current

    def copy(self):
        return Databases(dict(self.entries), self.current)

    def names(self, managed):
        """Those that are (not) ours, without default and the current one."""
        fixed = ("default", self.current)
        found = [n for n, (path, _) in self.entries.items() if n not in fixed]
        return sorted(n for n in found if managed == (self.entries[n][0] is None))


class CatalogCuts:
    """Many power cuts over one catalog, and the checks after each."""

    def __init__(self, server, image, shells, rng):
        self.server = server
        self.image = image
        self.shells = shells
        self.rng = rng
        self.root = image.folder / "srv"
        self.now = Databases({"default": (None, 200)}, "default")
        self.number = 0
        self.tried = collections.Counter()

    # ---- the operations: what is sent, and what it makes of the list ----

    def plan(self, operation):
        """(method, path, body), and the list afterwards."""
        self.number += 1
        fresh = f"n{self.number}"
        new = self.now.copy()
        if operation == "create":
            new.entries[fresh] = (None, None)
            return ("POST", DATABASES, {"name": fresh}), new
        if operation == "register":
            path = self.root / f"{fresh}.db"
            new.entries[fresh] = (path, None)
            return ("POST", DATABASES, {"name": fresh, "path": str(path)}), new
        if operation == "switch":
            new.current = self.rng.choice(sorted(set(new.entries) - {new.current}))
            body = {"name": new.current}
            return ("PATCH", DATABASES + "/current", body), new
        name = self.rng.choice(self.now.names(operation == "remove"))
        del new.entries[name]
        return ("DELETE", f"{DATABASES}/{name}", None), new

    def prepare(self, operation):
        """What the operation works on is there, and durable."""
        needs = {"remove": "create", "unregister": "register", "switch": "create"}
        if operation not in needs:
            return
        (method, path, body), new = self.plan(needs[operation])
        assert self.server.send_json(method, path, body, {}).status == 201
        self.now = new
        name = body["name"]
        self.fill(name)
        self.now.entries[name] = (self.now.entries[name][0], 9)

    def fill(self, name):
        """Rows, the last of them in a -wal that a killed application left."""
        application = self.shells(self.live(name))
        application.sql("PRAGMA journal_mode=wal")
        application.sql("PRAGMA synchronous=FULL")
        application.sql("CREATE TABLE item(id INTEGER PRIMARY KEY)")
        for i in range(9):
            application.sql(f"INSERT INTO item VALUES({i})")
        application.kill()

    def live(self, name):
        path = self.now.entries[name][0]
        return path or self.server.live(name)

    # ---- one cut ----

    def round(self, operation, aim=None, call=None):
        """One cut and what follows; returns whether it was acknowledged."""
        self.prepare(operation)
        request, new = self.plan(operation)
        tracer = None
        if call:
            tracer = Tracer(self.server, call[0], f"signal=KILL:when={call[1]}")
        hit = Cut(self.server, self.image, None, self.rng)
        send = threading.Thread(target=hit.request, args=request)
        send.start()
        acked = hit.end(send, aim or call, self.rng.uniform(0, 0.02))
        if tracer:
            tracer.close()
        self.image.remount()
        self.server.start()
        self.tried[operation] += 1
        self.check(new, acked)
        return acked

    def check(self, new, acked):
        """The new list if it was acknowledged, else it or the old one."""
        listed = self.server.get(DATABASES).json()["databases"]
        names = {entry["name"] for entry in listed}
        current = self.server.get(DATABASES + "/current").json()["current"]
        happened = (names, current) == (set(new.entries), new.current)
        old = (set(self.now.entries), self.now.current)
        assert happened or (not acked and (names, current) == old), (names, current)
        removed = set(self.now.entries) - names
        for name in removed:
            self.check_removed(name)
        if happened:
            self.now = new
        assert all(entry["exists"] for entry in listed), listed
        for name in names:
            self.check_there(name)
        self.check_folders(names)

    def check_there(self, name):
        live, rows = self.live(name), self.now.entries[name][1]
        assert dbfile.integrity(live) == "ok"
        assert count_rows(live) == rows, name

    def check_removed(self, name):
        """Ours is kept as a backup; of others nothing is touched."""
        path, rows = self.now.entries[name]
        if path is None:
            path = sorted(self.server.folder(name).glob("app_*.db"))[-1]
            dbfile.assert_backup_ok(path)
        assert count_rows(path) == rows, name

    def check_folders(self, names):
        """Nothing that somebody was not told of, no temporary file."""
        assert os.listdir(self.server.data / "tmp") == []
        for folder in (self.server.data / "databases").iterdir():
            left = set(os.listdir(folder)) - {"app.db"}
            if folder.name in names:
                left -= {"app.db-wal", "app.db-shm"}
            assert left == set(), folder
            assert (folder / "app.db").exists() == (folder.name in names), folder
        for file in os.listdir(self.root):
            assert not file.startswith("."), file

    def sweep(self, operation):
        """A cut before each call that makes something durable, in turn."""
        tried = 0
        for call in DURABLE_CALLS:
            n = 1
            while not self.round(operation, call=(call, n)):
                n += 1
            tried += n - 1
        return tried


def count_rows(path):
    """The rows of a database, or None if it is empty."""
    if dbfile.query(path, "SELECT * FROM sqlite_master") == []:
        return None
    return dbfile.query(path, "SELECT count(*) FROM item")[0][0]


@pytest.fixture
def cuts(servers, shells, mounts, base, seed):
    """cuts(filesystem): a server over one database, on an image."""

    def make(kind):
        image = mounts.image(kind)
        root = image.folder / "srv"
        root.mkdir()
        server = servers(args=["--database-root", str(root)])
        place(server, image, dbfile.make(base / "x.db", rows=200))
        server.start()
        return CatalogCuts(server, image, shells, random.Random(f"{seed}-{kind}"))

    return make


def run(cuts, report, kind, times=1):
    """Cuts at random, after the answer, and at the step of writing."""
    plan = []
    for operation in OPERATIONS:
        plan += [(operation, None)] * RANDOM * times
        plan += [(operation, "answer")] * ANSWERED * times
    cuts.rng.shuffle(plan)
    for operation, aim in plan:
        cuts.round(operation, aim)
    report(f"Power cuts of catalog changes, {kind}: {dict(cuts.tried)}")


@pytest.mark.parametrize("kind", FILESYSTEMS)
def test_power_cut_in_a_change_of_the_catalog(cuts, report, kind):
    run(cuts(kind), report, kind)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ALL_FILESYSTEMS)
def test_hundreds_of_power_cuts_in_changes_of_the_catalog(cuts, report, kind):
    run(cuts(kind), report, kind, 14)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_power_cut_before_each_durable_call(cuts, report, operation):
    n = cuts("ext4").sweep(operation)
    report(f"Power cuts before each durable call of {operation} of a database: {n}")
