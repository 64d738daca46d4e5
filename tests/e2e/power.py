"""Power cuts: a server on an image, struck while it works, and started again.

Cut is one request and the loss of power during it; PowerCuts is many of them
over one data directory, with the checks of test_kill.Campaign after each.
"""

import os
import shutil
import subprocess
import time

import app
import dbfile
from disk import cannot
from ledger import journal
from server import DEADLINE_S, wait_for
from test_kill import Campaign, Strike, wait_settled

# The calls after which something else is, or will be, on the disk.
DURABLE_CALLS = ("fsync", "fdatasync", "renameat2", "unlink", "unlinkat", "ftruncate")


class Tracer:
    """strace on a running server, which interferes with some of its calls."""

    def __init__(self, server, calls, what, paths=()):
        if shutil.which("strace") is None:
            cannot("strace is not installed")
        self.log = server.base / "strace"
        command = ["strace", "-f", "-o", os.devnull, "-e", f"trace={calls}"]
        command += ["-e", f"inject={calls}:{what}", "-p", str(server.process.pid)]
        for path in paths:
            command += ["-P", str(path)]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, stderr=log)
        wait_for(self.is_attached, "strace to attach")

    def is_attached(self):
        text = self.log.read_text()
        if self.process.poll() is not None:
            cannot(f"strace may not attach: {text}")
        return " attached" in text

    def close(self):
        """Let go of the server, if it still lives."""
        self.process.terminate()
        self.process.wait(DEADLINE_S)


class Cut(Strike):
    """One request, the loss of power during it, and the end of the server.

    Aimed, the request is over before the cut: acknowledged, or ended by the
    server's death at a step or a call.  Else the power fails at a random
    moment, and whether the kernel had written something out just before is
    random too.
    """

    def __init__(self, server, image, application, rng):
        super().__init__(server)
        self.image = image
        self.application = application
        self.rng = rng

    def run(self, operation, name, aim, delay_s):
        """Send it and cut the power; True if it was acknowledged."""
        thread = self.send(operation, name)
        return self.end(thread, aim, delay_s)

    def end(self, thread, aim, delay_s, before=lambda: None):
        """The cut, and the end of all processes; whether it was acknowledged.

        Only what was told before the cut counts, and before() is called then:
        on ext4 an fdatasync that races with the ioctl may report success for
        what does not reach the disk (4 of 60 tries without any of our code).
        """
        helpers = self.server.children()
        if aim:
            thread.join()
        else:
            self.wait_at_random(delay_s, thread)
        acknowledged = self.response is not None and self.response.status < 300
        before()
        self.cut(helpers)
        if self.server.process.poll() is None:
            self.server.process.kill()
        thread.join()
        if self.application:
            self.application.kill()
        self.server.wait_killed(helpers)
        return acknowledged

    def cut(self, helpers):
        alive = [self.server.process.pid, *helpers]
        if self.server.process.poll() is not None:
            alive = []
        if self.application:
            alive.append(self.application.pid)
        self.image.cut(alive)

    def wait_at_random(self, delay_s, thread):
        """Wait for the operation to begin, then for a random while."""
        while thread.is_alive() and self.server.phase()[:4] in ("", "api."):
            pass
        now = time.monotonic()
        sync_at = now + self.rng.uniform(0, 2 * delay_s)
        end = now + delay_s
        while thread.is_alive() and now < end:
            if now >= sync_at:
                self.image.sync()
                sync_at = end
            now = time.monotonic()


class PowerCuts(Campaign):
    """Many power cuts over one data directory, and the checks after each."""

    def __init__(self, server, image, shells, rng, falls):
        super().__init__(server, None, rng, falls)
        self.image = image
        self.shells = shells
        self.open_application()

    def open_application(self):
        """It waits for the disk: what it is told of is durable.

        In rollback mode FULL leaves the journal's removal to the disk's
        pleasure, so that a commit may be undone; EXTRA does not.
        """
        self.application = self.shells(self.server.live())
        mode = self.application.value("PRAGMA journal_mode")
        level = "FULL" if mode == "wal" else "EXTRA"
        self.application.sql(f"PRAGMA synchronous={level}")

    def new_strike(self):
        return Cut(self.server, self.image, self.application, self.rng)

    def power_up(self):
        """The machine starts again, then the application, then the server."""
        self.image.remount()
        self.open_application()
        self.server.start()

    def round(self, operation, aim=None):
        """One cut and what follows; returns whether it was acknowledged."""
        self.strike(operation, aim)
        self.power_up()
        self.check()
        return self.acked

    def run(self, plan):
        """Cuts at random moments, at named steps, after the answer."""
        for operation, aim in plan:
            self.refill()
            if aim and aim != "answer":
                self.server.stop()
                self.server.start(env={"HOLDFAST_TEST_KILL": aim})
            self.round(operation, aim)

    def sweep(self, operation):
        """A cut before each call that makes something durable, in turn.

        Returns how many of them the operation made, and each was tried.
        """
        self.pick = max
        tried = 0
        for call in DURABLE_CALLS:
            n = 1
            while not self.cut_before(operation, call, n):
                n += 1
            tried += n - 1
        return tried

    def cut_before(self, operation, call, n):
        """A cut before the nth such call; whether there was none."""
        self.refill()
        self.add()  # the newest one's name is noted before it is deleted
        tracer = Tracer(self.server, call, f"signal=KILL:when={n}")
        try:
            return self.round(operation, "call")
        finally:
            tracer.close()


class WriterCuts:
    """Power cuts during restores while somebody commits without a pause.

    Each time the writer has another number, and its commits count from 1.
    """

    def __init__(self, server, image, mode, rng):
        self.server = server
        self.image = image
        self.mode = mode
        self.rng = rng
        self.acked = server.base / "acked"
        self.n_acked = 0  # of this time
        self.n_commits = 0  # of all of them
        self.n_restored = 0
        self.mark = 0

    def set_mark(self, db):
        """A value that tells the live database from every backup."""
        self.mark += 1
        db.execute("PRAGMA synchronous=EXTRA")
        db.execute(f"UPDATE mark SET value={self.mark}")

    def start_writer(self, number):
        self.acked.write_bytes(b"")
        level = "FULL" if self.mode == "wal" else "EXTRA"
        arguments = (self.server.live(), self.acked, number, number, self.mode, level)
        return app.Process("writer", *arguments)

    def count(self):
        """How many commits the writer was told of by now."""
        self.n_acked = self.acked.stat().st_size // app.LINE
        return self.n_acked

    def round(self, number, took_s):
        names = self.server.backups()
        with dbfile.opened(self.server.live()) as db:
            self.set_mark(db)
        writer = self.start_writer(number)
        try:
            wait_for(lambda: self.count() > 1, "commits")
            hit = Cut(self.server, self.image, writer, self.rng)
            thread = hit.send("restore", self.rng.choice(names))
            aim = self.rng.choice((None, None, "answer"))
            delay_s = self.rng.uniform(0, took_s)
            acknowledged = hit.end(thread, aim, delay_s, self.count)
        finally:
            writer.kill()
        self.image.remount()
        self.server.start()
        wait_settled(self.server)
        self.check(number, names, acknowledged)

    def check(self, number, names, acknowledged):
        """Each acknowledged commit is live, or in the safety backup."""
        live = self.server.live()
        new = set(self.server.backups()) - set(names)
        for name in new:
            dbfile.assert_backup_ok(self.server.backup_path(name))
        assert dbfile.integrity(live) == "ok"
        with dbfile.opened(live) as db:
            assert app.look(db, app.ACCOUNTS) is None
            mark = db.execute("SELECT value FROM mark").fetchone()[0]
        restored = mark != self.mark
        assert restored or not acknowledged
        found = journal(live, readonly=False).get(number, set())
        if restored:
            assert len(new) == 1, "restored, but the state before is not kept"
            found |= journal(self.server.backup_path(*new)).get(number, set())
        last = max([self.n_acked, *found])
        lost = set(range(1, last + 1)) - found
        assert not lost, f"{lost} of {self.n_acked}; restored: {restored}"
        self.n_restored += restored
        self.n_commits += self.n_acked


def place(server, image, source):
    """The data directory on the image, with a database in it; durable."""
    server.data = image.folder / "data"
    server.data.mkdir(mode=0o700)
    live = server.prepare(source)
    image.sync()
    return live
