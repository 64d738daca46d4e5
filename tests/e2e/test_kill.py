"""P2, P3, P5: kill -9 at any moment leaves the whole result or none of it.

The server is killed 300 times: from outside at random moments of a create, a
restore or a delete, and by its own hand at named steps (test build).  After
each start the list shows only good backups, what was acknowledged is there
and what was deleted is not, the live database is the old or the new one for
a fresh connection as for an application that had it open all along, a restore
that took place can be undone, and no temporary file is left.
"""

import collections
import http.client
import json
import os
import random
import threading
import time

import pytest

import app
import dbfile
from ledger import Ledger, journal
from server import BACKUP, wait_for

OPERATIONS = ("create", "restore", "delete")
WRITING = ("restore.write", "restore.commit")

# Steps at which the server kills itself, how often each is tried in a run of
# one journal mode: a step and which pass of it.
AIMS = {
    "create": {"create.copy": 5, "create.facts": 5, "create.publish": 5},
    "restore": {
        "restore.copy": 6,
        "restore.locked": 4,
        "restore.publish": 4,
        "restore.write": 16,
        "restore.commit": 8,
    },
    "delete": {"delete.unlink": 7, "delete.facts": 7, "delete.sync": 7},
}
RANDOM_KILLS = {"create": 17, "restore": 24, "delete": 6}  # for each mode
UNDER_WRITERS = 30  # for each mode

LOOK = """
    SELECT group_concat(x, ',') FROM
    (SELECT id||':'||gen||':'||hex(substr(data, 1, 4)) AS x FROM filler ORDER BY id)
"""


def make_database(path, mode):
    """A database of some 3 MB in which every row bears a generation."""
    sql = """
        CREATE TABLE filler(id INTEGER PRIMARY KEY, gen INT, data BLOB);
        CREATE INDEX filler_gen ON filler(gen);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<700)
        INSERT INTO filler SELECT i, 0, randomblob(4000) FROM n;
    """
    return dbfile.make(path, journal=mode, sql=sql)


class Falls:
    """Where the kills (or power cuts: `word`) fell, over both journal modes.

    A kill fell inside an operation when that had taken its first step behind
    the API and was not acknowledged; between first page and commit when the
    last step taken was one of those and the live database is the old one.
    """

    def __init__(self, word="Kills"):
        self.word = word
        self.tried = collections.Counter()
        self.steps = collections.Counter()
        self.inside = collections.Counter()
        self.writing = 0

    def add(self, operation, step, acked, restored=False):
        self.tried[operation] += 1
        inside = not acked and step not in ("", "idle") and step[:4] != "api."
        self.inside[operation if inside else "outside"] += 1
        self.steps[f"{operation}: {step}" if inside else "outside"] += 1
        self.writing += bool(inside and step in WRITING and not restored)

    def total(self):
        return sum(self.inside.values())

    def lines(self):
        word = self.word
        yield f"{word}: {self.total()}: {dict(self.tried)}"
        yield f"{word} inside: {dict(self.inside)}"
        yield f"{word} between first page and commit: {self.writing}"
        for step, n in sorted(self.steps.items()):
            yield f"{word} at {step}: {n}"


@pytest.fixture(scope="module")
def falls(report):
    value = Falls()
    yield value
    for line in value.lines():
        report(line)


def wait_settled(server):
    """Wait until the start has finished what a killed restore left."""
    wait_for(
        lambda: not list(server.folder().glob("*.pending")),
        "the safety backup of a killed restore to be finished",
    )


class Strike:
    """One request, and the death of the server during it."""

    def __init__(self, server):
        self.server = server
        self.response = None
        server.phase_file.write_text("")

    def request(self, method, path, document=None):
        try:
            self.response = self.server.send_json(method, path, document, {})
        except (OSError, http.client.HTTPException) as error:
            self.error = error

    def run(self, operation, name, aim, delay_s):
        """Send it and see the server die; True if it was acknowledged."""
        helpers = self.server.children()
        thread = self.send(operation, name)
        if not aim:
            self.strike_at_random(delay_s, thread)
        thread.join()
        if self.server.process.poll() is None:
            self.server.process.kill()
        self.server.wait_killed(helpers)
        if self.response is None:
            return False
        assert self.response.status == 200, self.response
        return True

    def send(self, operation, name):
        """The thread that sends the request and waits for the answer."""
        method, path = {
            "create": ("POST", BACKUP),
            "restore": ("POST", f"{BACKUP}/{name}/restore"),
            "delete": ("DELETE", f"{BACKUP}/{name}"),
        }[operation]
        thread = threading.Thread(target=self.request, args=(method, path))
        thread.start()
        return thread

    def strike_at_random(self, delay_s, thread):
        """Wait for the operation to begin, then for a random while."""
        while thread.is_alive() and self.server.phase()[:4] in ("", "api."):
            pass
        end = time.monotonic() + delay_s
        while thread.is_alive() and time.monotonic() < end:
            pass
        self.server.process.kill()


class Campaign:
    """Many kills over one data directory, and what must be true after each."""

    def __init__(self, server, application, rng, falls):
        self.server = server
        self.application = application
        self.rng = rng
        self.falls = falls
        self.present = set()  # backups that must be listed
        self.in_doubt = set()  # those that may be
        self.gone = set()  # those that must not
        self.digests = {}  # of the content of each backup seen
        self.took_s = {}
        self.generation = 0

    # ---- one kill ----

    def new_strike(self):
        return Strike(self.server)

    def pick(self, names):
        """Which of these backups is restored or deleted next."""
        return self.rng.choice(names)

    def strike(self, operation, aim):
        """One operation with a kill in it; returns with the server dead."""
        self.in_doubt = set()
        self.old = self.new = dbfile.content_digest(self.server.live())
        self.before, self.safety = self.old, None
        name = None
        if operation != "create":
            name = self.pick(sorted(self.present))
        if operation == "restore":
            self.new = self.digests[name]
        if operation == "delete":
            self.present.discard(name)
            self.in_doubt.add(name)
        delay_s = self.rng.uniform(0, self.took_s[operation])
        hit = self.new_strike()
        acked = hit.run(operation, name, aim, delay_s)
        self.step = self.server.phase()
        if acked:
            self.acknowledge(operation, name, hit.response)
        self.operation, self.acked = operation, acked

    def acknowledge(self, operation, name, response):
        if operation == "create":
            self.present.add(response.json()["filename"])
        elif operation == "restore":
            self.safety = response.header("Holdfast-Safety-Backup")
            self.present.add(self.safety)
            self.old = self.new
        else:
            self.in_doubt.discard(name)
            self.gone.add(name)

    # ---- afterwards ----

    def check(self):
        """All that must be true once the server runs again."""
        wait_settled(self.server)
        listed = set(self.server.backups())
        assert self.present <= listed, f"lost: {self.present - listed}"
        assert not listed & self.gone, f"came back: {listed & self.gone}"
        surplus = listed - self.present - self.in_doubt - set(self.digests)
        for name in listed - set(self.digests):
            self.check_backup(name)
        assert len(surplus) <= 1, surplus
        if surplus:
            assert self.operation in ("create", "restore") and not self.acked
        self.check_folders(listed)
        self.check_live(listed)
        self.gone |= self.in_doubt - listed
        self.present = listed

    def check_backup(self, name):
        path = self.server.backup_path(name)
        dbfile.assert_backup_ok(path)
        facts = json.loads(path.with_suffix(".json").read_bytes())
        assert facts["sha256"] == dbfile.file_digest(path)
        assert facts["size"] == path.stat().st_size
        self.digests[name] = dbfile.content_digest(path, readonly=True)

    def check_folders(self, listed):
        assert os.listdir(self.server.data / "tmp") == []
        found = set(os.listdir(self.server.folder())) - {"suspect"}
        pairs = {name[:-3] + end for name in listed for end in (".db", ".json")}
        assert found == pairs
        if (self.server.folder() / "suspect").exists():
            assert os.listdir(self.server.folder() / "suspect") == []

    def check_live(self, listed):
        live = self.server.live()
        now = dbfile.content_digest(live)
        assert now in (self.old, self.new), f"a mixture after {self.operation}"
        self.falls.add(self.operation, self.step, self.acked, now != self.old)
        assert dbfile.integrity(live) == "ok"
        assert self.application.value("PRAGMA integrity_check") == "ok"
        seen = dbfile.query(live, LOOK)[0][0].decode()
        assert self.application.value(LOOK) == seen
        if self.safety:
            assert self.digests[self.safety] == self.before
        if now != self.old:
            kept = {self.digests[name] for name in listed}
            assert self.old in kept, "restored, but the state before is not kept"
        self.change()

    def change(self):
        """The application goes on: it commits, on its old connection."""
        self.generation += 1
        self.application.sql("BEGIN IMMEDIATE")
        self.application.sql(
            f"UPDATE filler SET gen={self.generation}, data=randomblob(4000)"
            f" WHERE id%7={self.generation % 7}"
        )
        self.application.sql("COMMIT")

    # ---- the whole ----

    def warm_up(self):
        """A few whole operations, to know how long each takes."""
        for operation in OPERATIONS * 3:
            names = sorted(self.present) or [self.server.create()["filename"]]
            start = time.monotonic()
            if operation == "create":
                names.append(self.server.create()["filename"])
            elif operation == "restore":
                names.append(self.server.restore(names[0]))
            else:
                self.server.remove(names.pop())
            self.took_s[operation] = time.monotonic() - start
            self.present = set(self.server.backups())
            self.change()
        for name in self.present:
            self.check_backup(name)

    def refill(self):
        """Keep between 3 and 12 backups, so that each operation has work."""
        while len(self.present) < 3:
            self.add()
        for name in sorted(self.present)[:-12]:
            self.server.remove(name)
            self.present.discard(name)
            self.gone.add(name)

    def add(self):
        name = self.server.create()["filename"]
        self.present.add(name)
        self.check_backup(name)
        self.change()

    def run(self, plan):
        self.warm_up()
        for operation, aim in plan:
            self.refill()
            if aim:
                self.server.stop()
                self.server.start(env={"HOLDFAST_TEST_KILL": aim})
            self.strike(operation, aim)
            self.server.start()
            self.check()


def make_plan(rng):
    """Random and aimed kills of one journal mode, shuffled."""
    plan = []
    for operation, steps in AIMS.items():
        plan += [(operation, None)] * RANDOM_KILLS[operation]
        for step, n in steps.items():
            plan += [(operation, f"{step}:1")] * n
    rng.shuffle(plan)
    return plan


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_kill_at_any_moment(servers, shells, base, falls, seed, mode):
    rng = random.Random(f"{seed}-{mode}")
    server = servers()
    server.prepare(make_database(base / "x.db", mode))
    server.start()
    application = shells(server.live())
    campaign = Campaign(server, application, rng, falls)
    campaign.run(make_plan(rng))
    application.close()


class UnderWriters:
    """Kills during restores while the whole application goes on."""

    def __init__(self, server, bank, rng, falls):
        self.server = server
        self.bank = bank
        self.rng = rng
        self.falls = falls
        self.ledger = Ledger(len(bank.writers))
        self.marks = {}  # of each backup: the mark in it
        self.mark = 0

    def set_mark(self):
        """A value that tells the live database from every backup."""
        self.mark += 1
        live = self.server.live()
        dbfile.execute(live, f"UPDATE mark SET value={self.mark}")

    def live_mark(self):
        return dbfile.query(self.server.live(), "SELECT value FROM mark")[0][0]

    def read_new(self):
        """Read backups that appeared, and return their names."""
        new = [name for name in self.server.backups() if name not in self.marks]
        for name in new:
            path = self.server.backup_path(name)
            dbfile.assert_backup_ok(path)
            self.marks[name] = dbfile.query(path, "SELECT value FROM mark", True)[0][0]
        return new

    def strike(self, took_s):
        self.set_mark()
        self.server.create()
        self.read_new()
        name = self.rng.choice(sorted(self.marks))
        self.set_mark()
        before = self.bank.acked()
        restored = journal(self.server.backup_path(name))
        delay_s = self.rng.uniform(0, took_s)
        hit = Strike(self.server)
        acked = hit.run("restore", name, None, delay_s)
        step = self.server.phase()
        after = self.bank.acked()
        self.server.start()
        wait_settled(self.server)
        new = self.read_new()
        assert len(new) <= 1, new
        happened = self.live_mark() != self.mark
        self.falls.add("restore", step, acked, happened)
        assert happened or not acked
        if happened:
            assert self.live_mark() == self.marks[name]
            assert len(new) == 1, "restored, but the state before is not kept"
            safety = journal(self.server.backup_path(new[0]))
            self.ledger.add(restored, safety, before, after)

    def run(self, n):
        self.read_new()
        start = time.monotonic()
        self.server.restore(self.server.create()["filename"])
        took_s = time.monotonic() - start
        self.read_new()
        self.start_ledger()
        for _ in range(n):
            self.bank.progress(2, wait_for)
            self.strike(took_s)

    def start_ledger(self):
        """Forget the warming up: the ledger begins with what is live now."""
        self.bank.pause()
        live = journal(self.server.live(), readonly=False)
        self.ledger.begin(live, self.bank.acked())
        self.bank.resume()


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_kill_under_writers_loses_nothing(servers, falls, report, seed, mode):
    server = servers()
    live = server.live()
    live.parent.mkdir(parents=True, mode=0o700)
    app.make_bank(live, mode, 4096, 0)
    dbfile.execute(live, "CREATE TABLE mark(value)", "INSERT INTO mark VALUES(0)")
    server.start()
    with app.Bank(live, server.base, seed, mode) as bank:
        run = UnderWriters(server, bank, random.Random(f"{seed}-{mode}"), falls)
        run.run(UNDER_WRITERS)
        bank.progress(3, wait_for)
        seen = bank.stop()
    run.ledger.close(journal(live, readonly=False), seen["commits"])
    report(
        f"Kills of restores under writers, {mode}: {UNDER_WRITERS}, of them "
        f"{len(run.ledger.windows) - 1} restored; {run.ledger.count()}"
    )
    assert seen["mixed"] == [] and seen["errors"] == []
    assert run.ledger.count() == {"lost": 0, "gaps": 0}
    assert dbfile.integrity(live) == "ok"


def test_enough_kills_fell_inside(falls):
    """Runs after the others of this file."""
    if falls.total() < 300:
        pytest.skip("the kills of this file were not all run")
    assert all(falls.inside[operation] >= 30 for operation in OPERATIONS)
    assert falls.writing >= 30
