"""P2, P9: on disks of any size an operation succeeds or is refused with 507.

Filesystems in memory are cut down to what is used and a few blocks or names
more, from none at all upwards, an ext4 image is filled step by step, and
somebody takes the space away while a copy is under way.  Whatever happens,
nothing partial is left, old backups and the live database are whole, and the
same process goes on when there is room again.
"""

import os
import random
import shutil
import threading

import pytest

import dbfile
from disk import MIB, must
from server import BACKUP, BIN, DATABASES, wait_for

PAGE = 4096


class Disk:
    """A filesystem in memory whose room is set while it is in use."""

    def __init__(self, mounts, folder):
        self.folder = mounts.tmpfs(folder, 64 * MIB, 10000, "0755")

    def leave(self, size=64 * MIB, names=1000):
        """So many bytes and names can be added to what is there."""
        info = os.statvfs(self.folder)
        used = (info.f_blocks - info.f_bfree) * info.f_frsize
        n = info.f_files - info.f_ffree
        options = f"remount,size={max(used + size, PAGE)},nr_inodes={n + names}"
        must("mount", "-o", options, self.folder)


class Subject:
    """A server with its data directory on the disk, a live database beside it
    or on it, and what must be true after whatever is asked of it."""

    def __init__(self, server, live, shells, room=lambda: None):
        self.server = server
        self.room = room  # makes room on the disk
        self.live = live
        self.application = shells(live)
        self.pid = server.process.pid
        self.name = server.create("app")["filename"]
        self.application.sql("UPDATE item SET text='changed'")
        self.digest = dbfile.file_digest(server.backup_path(self.name, "app"))
        self.present = {self.name}
        self.number = 0
        self.live_digest = self.content()
        self.wal_bytes = self.wal_size()

    def wal_size(self):
        wal = self.live.with_name(self.live.name + "-wal")
        return wal.stat().st_size if wal.exists() else 0

    def content(self):
        rows = self.application.sql("SELECT count(*), group_concat(text) FROM item")
        return repr(rows)

    def ask(self, method, path, document=None, good=200):
        """The answer: what was asked for, or 507."""
        self.wal_bytes = self.wal_size()
        answer = self.server.send_json(method, path, document, {})
        if answer.status != good:
            assert (answer.status, answer.error) == (
                507,
                "INSUFFICIENT_STORAGE",
            ), answer
        self.check(answer)
        return answer.status == good

    def check(self, answer=None):
        """Nothing partial, nothing lost, nothing grown without end."""
        server = self.server
        assert server.process.pid == self.pid and server.process.poll() is None
        assert os.listdir(server.data / "tmp") == []
        listed = set(server.backups("app"))
        assert self.present <= listed, answer
        for name in listed - self.present:
            dbfile.assert_backup_ok(server.backup_path(name, "app"))
        found = set(os.listdir(server.folder("app"))) - {"suspect"}
        pending = {n[:-8] + ".db" for n in found if n.endswith(".pending")}
        whole = {n[:-3] + end for n in listed for end in (".db", ".json")}
        kept = {n[:-3] + end for n in pending for end in (".db", ".pending")}
        assert found == whole | kept and len(pending) <= 1
        path = server.backup_path(self.name, "app")
        assert dbfile.file_digest(path) == self.digest
        assert self.application.value("PRAGMA integrity_check") == "ok"
        # On a full disk there may be no room to give its growth back either;
        # what stays is then no more than the pages that were to be written.
        full = answer is not None and answer.status == 507
        grown = self.live.stat().st_size * 2 if full else 0
        assert self.wal_size() <= self.wal_bytes + grown + MIB
        self.present = listed

    def create(self):
        before = set(self.present)
        done = self.ask("POST", BACKUP + "?database=app")
        assert len(self.present - before) == done
        assert self.content() == self.live_digest
        return done

    def restore(self):
        """Restore and, if that was done, go on from there."""
        before = set(self.present)
        done = self.ask("POST", f"{BACKUP}/{self.name}/restore?database=app")
        assert (self.content() == self.live_digest) != done
        if done:
            self.room()
            self.wait_settled()
            self.application.sql("UPDATE item SET text='changed'")
        assert len(self.present - before) == done
        return done

    def wait_settled(self):
        """A safety backup that there was no room to finish is listed later."""

        def settled():
            self.present = set(self.server.backups("app"))
            return not list(self.server.folder("app").glob("*.pending"))

        wait_for(settled, "the safety backup to be listed")
        self.check()

    def delete_others(self):
        """On a disk however full: it is what makes room."""
        self.wal_bytes = self.wal_size()
        for name in sorted(self.present - {self.name}):
            self.present.remove(name)
            self.server.remove(name, "app")
            self.check()

    def catalog(self):
        """A new database, removed again; how many of the two were done."""
        self.number += 1
        name = f"new{self.number}"
        listed = self.server.get(DATABASES).json()
        live, folder = self.server.live(name), self.server.folder(name)
        if not self.ask("POST", DATABASES, {"name": name}, 201):
            assert self.server.get(DATABASES).json() == listed
            assert not live.parent.exists() or os.listdir(live.parent) == []
            return 0
        assert dbfile.integrity(live) == "ok"
        removed = self.ask("DELETE", f"{DATABASES}/{name}", good=204)
        kept = os.listdir(folder) if folder.exists() else []
        if removed:
            assert not live.exists() and len(kept) == 2
        else:
            assert dbfile.integrity(live) == "ok"
        return 1 + removed


@pytest.fixture
def subject(servers, mounts, shells, base):
    """subject(mode): the data directory on a disk of its own."""

    def make(mode="wal", rows=60):
        root = base / "srv"
        live = dbfile.make(root / "app.db", rows=rows, journal=mode)
        server = servers(args=["--database-root", str(root)])
        disk = Disk(mounts, server.data)
        server.start()
        body = {"name": "app", "path": str(live)}
        assert server.post(DATABASES, body).status == 201
        return Subject(server, live, shells, disk.leave), disk

    return make


def room_again(subject, disk):
    disk.leave()
    subject.delete_others()
    assert subject.create() and subject.restore()
    assert subject.catalog() == 2
    subject.delete_others()


def sweep(subject, disk, steps, key, *operations):
    """Each operation with each amount of room; how often it was done."""
    done = 0
    for step in steps:
        for operation in operations:
            disk.leave(**{key: step})
            done += bool(operation())
            disk.leave(**{key: 0})
            subject.delete_others()
    return done


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_disk_of_every_size(subject, report, mode):
    subject, disk = subject(mode)
    need = subject.live.stat().st_size + MIB
    low = [PAGE * n for n in range(0, 9)]
    near = [need + PAGE * n for n in range(-3, 8)]
    operations = (subject.create, subject.restore, subject.catalog)
    done = sweep(subject, disk, low + near, "size", *operations)
    report(f"Disks of {len(low + near)} sizes, {mode}: {done} done, the others 507")
    assert 0 < done < 3 * len(low + near)
    room_again(subject, disk)


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_disk_with_room_for_few_names(subject, report, mode):
    subject, disk = subject(mode)
    operations = (subject.create, subject.restore, subject.catalog)
    done = sweep(subject, disk, range(9), "names", *operations)
    report(f"Disks with 0 to 8 names left, {mode}: {done} of 27 done, the others 507")
    assert 0 < done < 27
    room_again(subject, disk)


@pytest.mark.parametrize("what", ["size", "names"])
def test_server_starts_on_a_full_disk(subject, what):
    subject, disk = subject()
    server = subject.server
    disk.leave(**{what: 0})
    server.stop()
    server.start()
    subject.pid = server.process.pid
    assert not subject.create() and not subject.restore()
    assert server.download(subject.name, "app")
    assert server.details(subject.name, "app")["state"] == "good"
    room_again(subject, disk)


@pytest.mark.parametrize("names", [1, 2, 3, 4, 5, 6])
def test_first_start_with_room_for_few_names(servers, mounts, names):
    start_small(servers, mounts, MIB, names)


@pytest.mark.parametrize("pages", range(1, 9))
def test_first_start_on_a_tiny_disk(servers, mounts, pages):
    start_small(servers, mounts, pages * PAGE, 1000)


def start_small(servers, mounts, size, names):
    """It starts, or ends saying that the disk is full; later it starts."""
    server = servers()
    mounts.tmpfs(server.data, size, names)
    server.spawn()
    status = started_or_ended(server)
    if status is not None:
        assert status > 0 and server.process.poll() == status
        assert "full" in server.log(), server.log()
        server.join(status)
        must("mount", "-o", f"remount,size={64 * MIB},nr_inodes=1000", server.data)
        server.start()
    assert server.get(DATABASES).status == 200


def started_or_ended(server):
    """None when it is ready, else its exit status."""

    def state():
        status = server.process.poll()
        return ("ended", status) if status is not None else ready(server)

    return wait_for(state, "a start or an end")[1]


def ready(server):
    try:
        return ("ready", None) if server.get("/readyz").status == 200 else None
    except OSError:
        return None


# ---- the live database on the disk that is full ----


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_live_database_on_a_disk_of_every_size(servers, mounts, shells, base, mode):
    """The restore needs room beside it, for a WAL or a journal and growth."""
    disk = Disk(mounts, base / "srv")
    live = dbfile.make(disk.folder / "app.db", rows=300, journal=mode)
    server = servers(args=["--database-root", str(disk.folder)])
    server.start()
    assert server.post(DATABASES, {"name": "app", "path": str(live)}).status == 201
    subject = Subject(server, live, shells, disk.leave)
    size = live.stat().st_size
    done = []
    for step in range(0, 2 * size, max(PAGE, size // 12 // PAGE * PAGE)):
        disk.leave(step)
        done.append(subject.restore())
        disk.leave()
    assert not done[0] and done[-1], done


# ---- somebody takes the room away while a copy is under way ----


class Thief:
    """Fills a disk when the server has come to a step, until it gives back."""

    def __init__(self, subject, folder, step):
        self.server = subject.server
        self.filler = folder / "filler"
        self.step = step
        self.over = False  # the operation is
        subject.room = self.end
        self.server.phase_file.write_text("")
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        wait_for(self.is_due, "a step")
        if not self.over:
            fill(self.filler, 0)

    def is_due(self):
        return self.over or self.server.phase() == self.step

    def end(self):
        self.over = True
        self.thread.join()
        self.filler.unlink(missing_ok=True)


def fill(path, leave):
    """Take all that is free but so much, in ever smaller bites."""
    with open(path, "wb") as file:
        bite = 16 * MIB
        while bite >= PAGE:
            info = os.statvfs(path.parent)
            if info.f_bavail * info.f_frsize < leave + bite:
                bite //= 2
                continue
            try:
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, bite)
            except OSError:
                bite //= 2
    return path


THEFTS = [
    ("create", "create.copy"),
    ("create", "create.check"),
    ("create", "create.publish"),
    ("restore", "restore.copy"),
    ("restore", "restore.publish"),
    ("restore", "restore.write"),
]


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_room_that_vanishes_meanwhile(subject, report, mode):
    subject, disk = subject(mode, 4000)
    refused = 0
    for operation, step in THEFTS * 2:
        disk.leave(32 * MIB)
        thief = Thief(subject, disk.folder, step)
        refused += not getattr(subject, operation)()
        thief.end()
        subject.delete_others()
    report(f"Room that vanished during {2 * len(THEFTS)} copies, {mode}: {refused} 507")
    assert subject.create() and subject.restore()


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_room_beside_the_live_database_that_vanishes(
    servers, mounts, shells, base, report, mode
):
    disk = Disk(mounts, base / "srv")
    live = dbfile.make(disk.folder / "app.db", rows=4000, journal=mode)
    server = servers(args=["--database-root", str(disk.folder)])
    server.start()
    assert server.post(DATABASES, {"name": "app", "path": str(live)}).status == 201
    subject = Subject(server, live, shells)
    refused = 0
    for step in ("restore.copy", "restore.publish", "restore.write") * 2:
        disk.leave(16 * MIB)
        thief = Thief(subject, disk.folder, step)
        refused += not subject.restore()
        thief.end()
    report(f"Room that vanished beside 6 restored databases, {mode}: {refused} 507")
    assert subject.restore()


# ---- a real disk, filled step by step ----


@pytest.mark.parametrize("kind", ["ext4"])
def test_image_with_a_part_of_the_room_needed(
    servers, mounts, shells, base, report, kind
):
    """0, 5, … 100 % of what a create, and a restore, needs."""
    image = mounts.image(kind)
    server = servers()
    server.data = image.folder / "data"
    server.data.mkdir(mode=0o700)
    live = dbfile.make(base / "srv" / "app.db", rows=6000)
    server.args = ["--database-root", str(live.parent)]
    server.start()
    assert server.post(DATABASES, {"name": "app", "path": str(live)}).status == 201
    subject = Subject(server, live, shells)
    need = live.stat().st_size + MIB
    done = 0
    for percent in range(0, 101, 5):
        for operation in (subject.create, subject.restore):
            filler = fill(image.folder / "filler", need * percent // 100)
            subject.room = lambda f=filler: f.unlink(missing_ok=True)
            done += operation()
            subject.room()
            subject.delete_others()
    report(f"ext4 with 0, 5, … 100 % of the room needed: {done} of 42 done, else 507")
    assert subject.create() and subject.restore()


# ---- folders on other filesystems ----


@pytest.mark.parametrize("where", ["backups", "backups/app"])
def test_backups_on_a_filesystem_of_their_own(servers, mounts, shells, base, where):
    """Room is looked for where the copy will lie, not where DATA/tmp is."""
    live = dbfile.make(base / "srv" / "app.db", rows=4000)
    server = servers(args=["--database-root", str(live.parent)])
    small = Disk(mounts, server.data)
    (server.data / where).mkdir(parents=True, mode=0o700)
    other = Disk(mounts, server.data / where)
    server.start()
    assert server.post(DATABASES, {"name": "app", "path": str(live)}).status == 201
    subject = Subject(server, live, shells)
    small.leave(64 << 10)
    assert subject.create() and subject.restore()
    subject.delete_others()
    small.leave()
    other.leave(64 << 10)
    assert not subject.create() and not subject.restore()
    other.leave()
    assert subject.create()


def test_backups_on_another_mount_of_the_same_filesystem(servers, mounts, shells, base):
    live = dbfile.make(base / "srv" / "app.db", rows=100)
    server = servers(args=["--database-root", str(live.parent)])
    other = base / "elsewhere"
    other.mkdir(mode=0o700)
    mounts.bind(other, server.data / "backups")
    server.start()
    assert server.post(DATABASES, {"name": "app", "path": str(live)}).status == 201
    subject = Subject(server, live, shells)
    assert subject.create() and subject.restore()
    subject.delete_others()


# ---- disks that go away or may not be written ----


def test_data_directory_that_turns_read_only(servers, mounts, shells, base):
    """As ext4 does after an error: reading goes on, writing is refused."""
    image = mounts.image("ext4", options="errors=remount-ro")
    server = servers()
    server.data = image.folder / "data"
    live = dbfile.make(base / "srv" / "app.db", rows=100)
    server.args = ["--database-root", str(live.parent)]
    server.start()
    assert server.post(DATABASES, {"name": "app", "path": str(live)}).status == 201
    subject = Subject(server, live, shells)
    image.sync()
    image.fail()
    for method, path in (
        ("POST", BACKUP),
        ("POST", f"{BACKUP}/{subject.name}/restore"),
        ("DELETE", f"{BACKUP}/{subject.name}"),
    ):
        answer = server.send_json(method, path + "?database=app", None, {})
        assert answer.status in (409, 500), answer
        subject.check()
        assert subject.content() == subject.live_digest
    assert server.post(DATABASES, {"name": "new"}).status in (409, 500)
    assert server.backups("app") == [subject.name]
    assert server.download(subject.name, "app")
    server.stop()
    image.remount()
    server.start()
    subject.pid = server.process.pid
    subject.check()
    assert subject.create() and subject.restore()


def test_mount_of_the_data_directory_that_is_lost(subject, mounts):
    """Nothing may be acknowledged that the next start would not find."""
    subject, disk = subject()
    server = subject.server
    away = mounts.bind(disk.folder, server.base / "away")
    mounts.remove(disk.folder, "-l")
    for method, path in (
        ("POST", BACKUP),
        ("POST", f"{BACKUP}/{subject.name}/restore"),
        ("DELETE", f"{BACKUP}/{subject.name}"),
    ):
        answer = server.send_json(method, path + "?database=app", None, {})
        assert answer.status == 503, answer
        assert answer.json()["details"]["reason"] == "data_directory"
    assert server.post(DATABASES, {"name": "new"}).status == 503
    assert server.get("/readyz").status == 503
    assert server.get("/healthz").status == 200
    assert os.listdir(server.data) == []
    mounts.bind(away, server.data)
    assert server.get("/readyz").status == 200
    subject.check()
    assert subject.create() and subject.restore()


def test_database_folder_that_disappears_and_comes_back(subject):
    subject, _ = subject()
    server = subject.server
    subject.application.close()
    folder, away = subject.live.parent, subject.live.parent.with_name("away")
    folder.rename(away)
    response = server.post(BACKUP + "?database=app")
    assert (response.status, response.error) == (404, "NOT_FOUND"), response
    response = server.post(f"{BACKUP}/{subject.name}/restore?database=app")
    assert (response.status, response.error) == (409, "CONFLICT"), response
    assert os.listdir(server.data / "tmp") == []
    away.rename(folder)
    assert server.create("app") and server.restore(subject.name, "app")
    assert dbfile.integrity(subject.live) == "ok"


def test_folder_of_backups_that_disappears_and_comes_back(subject):
    subject, _ = subject()
    server = subject.server
    folder, away = server.folder("app"), server.data / "away"
    folder.rename(away)
    assert server.backups("app") == []
    assert server.get(f"{BACKUP}/{subject.name}?database=app").status == 404
    away.rename(folder)
    assert server.backups("app") == [subject.name]
    assert subject.create() and subject.restore()


def test_data_directory_of_another_owner(servers, base):
    """A server that may not write there does not start, and says why; one
    that loses the right refuses, and goes on when it has it again."""
    nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    program = shutil.copy(BIN, base / "holdfast")
    server = servers(binary=program, **nobody)
    os.chown(server.base, 65534, 65534)
    server.spawn()
    assert server.process.wait() > 0
    assert "data directory" in server.log() and "denied" in server.log()
    server.join(server.process.returncode)
    os.chown(server.data, 65534, 65534)
    server.start()
    assert server.post(DATABASES, {"name": "app"}).status == 201
    name = server.create("app")["filename"]
    for folder, _, _ in os.walk(server.data):
        os.chown(folder, 0, 0)
    assert server.post(BACKUP + "?database=app").status == 500
    for folder, _, _ in os.walk(server.data):
        os.chown(folder, 65534, 65534)
    assert server.create("app")
    assert name in server.backups("app")
    assert os.listdir(server.data / "tmp") == []


def test_random_disks(subject, seed, report):
    """Any operation with any room, in any order."""
    rng = random.Random(seed)
    subject, disk = subject()
    operations = (subject.create, subject.restore, subject.catalog)
    done = 0
    for _ in range(40):
        disk.leave(rng.choice((0, 1, 3, 9, 300, 400)) * PAGE, rng.randrange(12))
        done += bool(rng.choice(operations)())
        if rng.randrange(3) == 0:
            subject.delete_others()
    report(f"Random disks: {done} of 40 operations done, the others 507")
    room_again(subject, disk)
