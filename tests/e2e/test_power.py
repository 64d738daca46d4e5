"""P2, P3, P4: what was acknowledged survives the loss of power, whole.

Filesystems in images are shut down by ioctl, nothing flushed, in the middle
of creates, restores, deletes and changes of the catalog: at named steps,
before each call that makes something durable, after the answer, at random
moments.  Then the server is killed, the image mounted again, everything
started and checked.  The controls leave out a sync and must show the loss.
"""

import os
import random
import time

import pytest

import app
import dbfile
from power import DURABLE_CALLS, Cut, PowerCuts, Tracer, WriterCuts, place
from server import DATABASES
from test_kill import Falls, make_database

FILESYSTEMS = ("ext4", "xfs")
ALL_FILESYSTEMS = FILESYSTEMS + ("btrfs",)  # the last without that ioctl

# For each filesystem and journal mode: after the answer, and at random.
ANSWERED = 1
RANDOM = 2
UNDER_WRITER = 10  # for each mode
RESTORES = 3  # after the answer, for each way
CONTROL = 3
STEPS = {
    "create": ("create.copy", "create.publish"),
    "restore": ("restore.publish", "restore.write", "restore.commit"),
    "delete": ("delete.facts", "delete.sync"),
}


@pytest.fixture(scope="module")
def falls(report):
    value = Falls("Power cuts")
    yield value
    for line in value.lines():
        report(line)


def make_plan(rng, times=1):
    plan = []
    for operation, steps in STEPS.items():
        plan += [(operation, "answer")] * ANSWERED * times
        plan += [(operation, None)] * RANDOM * times
        plan += [(operation, f"{step}:1") for step in steps] * times
    rng.shuffle(plan)
    return plan


@pytest.fixture
def campaign(servers, shells, mounts, base, falls, seed):
    """campaign(filesystem, mode): a server on an image, warmed up."""

    def make(kind, mode):
        image = mounts.image(kind)
        server = servers(name=f"{kind}-{mode}")
        place(server, image, make_database(base / "x.db", mode))
        server.start()
        rng = random.Random(f"{seed}-{kind}-{mode}")
        cuts = PowerCuts(server, image, shells, rng, falls)
        cuts.warm_up()
        return cuts

    return make


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
@pytest.mark.parametrize("kind", FILESYSTEMS)
def test_power_cut_at_any_moment(campaign, kind, mode):
    cuts = campaign(kind, mode)
    cuts.run(make_plan(cuts.rng))


@pytest.mark.soak
@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
@pytest.mark.parametrize("kind", ALL_FILESYSTEMS)
def test_hundreds_of_power_cuts_at_any_moment(campaign, kind, mode):
    cuts = campaign(kind, mode)
    cuts.run(make_plan(cuts.rng, 6))


@pytest.mark.parametrize("operation", STEPS)
def test_power_cut_before_each_durable_call(campaign, report, operation):
    sweep(campaign, report, "ext4", operation)


@pytest.mark.soak
@pytest.mark.parametrize("operation", STEPS)
@pytest.mark.parametrize("kind", ("xfs", "btrfs"))
def test_power_cut_before_each_durable_call_elsewhere(
    campaign, report, kind, operation
):
    sweep(campaign, report, kind, operation)


def sweep(campaign, report, kind, operation):
    for mode in dbfile.JOURNAL_MODES if operation == "restore" else ["wal"]:
        n = campaign(kind, mode).sweep(operation)
        report(
            f"Power cuts before each durable call of {operation}, {kind}, {mode}: {n}"
        )


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_power_cut_under_a_writer_loses_no_commit(
    servers, mounts, base, report, seed, mode
):
    run_under_writer(servers, mounts, base, report, seed, mode, "ext4", UNDER_WRITER)


@pytest.mark.soak
@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
@pytest.mark.parametrize("kind", ALL_FILESYSTEMS)
def test_many_power_cuts_under_a_writer(
    servers, mounts, base, report, seed, kind, mode
):
    run_under_writer(servers, mounts, base, report, seed, mode, kind, 70)


def run_under_writer(servers, mounts, base, report, seed, mode, kind, n):
    image = mounts.image(kind)
    server = servers()
    app.make_bank(base / "bank.db", mode, 4096, 0)
    dbfile.execute(
        base / "bank.db", "CREATE TABLE mark(value)", "INSERT INTO mark VALUES(0)"
    )
    place(server, image, base / "bank.db")
    server.start()
    cuts = WriterCuts(server, image, mode, random.Random(f"{seed}-{mode}"))
    start = time.monotonic()
    server.restore(server.create()["filename"])
    took_s = 2 * (time.monotonic() - start)
    for number in range(n):
        cuts.round(number, took_s)
    report(
        f"Power cuts of restores under a writer, {kind}, {mode}: {n}, of them "
        f"{cuts.n_restored} restored; {cuts.n_commits} commits acknowledged, 0 lost"
    )


# ---- after the answer, with an application and without ----


def small_server(servers, image, base, mode="wal"):
    """A server over a small database on the image, started, all of it durable."""
    server = servers()
    place(server, image, dbfile.make(base / "x.db", rows=500, journal=mode))
    server.start()
    return server


def cut_now(server, image, application=None):
    """The power fails; the machine and the server start again."""
    helpers = server.children()
    image.cut([server.process.pid, *helpers])
    if application:
        application.kill()
    server.kill()
    image.remount()
    server.start()


def count_items(path):
    return dbfile.query(path, "SELECT count(*) FROM item")[0][0]


@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
@pytest.mark.parametrize("kind", FILESYSTEMS)
def test_acknowledged_restore_is_durable(
    servers, mounts, shells, base, kind, mode, is_open
):
    image = mounts.image(kind)
    restores(servers, shells, base, image, mode, is_open, RESTORES)


@pytest.mark.soak
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
@pytest.mark.parametrize("kind", ALL_FILESYSTEMS)
def test_many_acknowledged_restores_are_durable(
    servers, mounts, shells, base, kind, mode, is_open
):
    restores(servers, shells, base, mounts.image(kind), mode, is_open, 10)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ALL_FILESYSTEMS)
def test_twenty_acknowledged_creates_are_durable(servers, mounts, base, kind):
    image = mounts.image(kind)
    server = small_server(servers, image, base)
    names = []
    for _ in range(20):
        names.append(server.create()["filename"])
        cut_now(server, image)
        assert sorted(server.backups()) == names
        for name in names:
            facts = server.details(name)
            assert facts["sha256"] == dbfile.file_digest(server.backup_path(name))


def restores(servers, shells, base, image, mode, is_open, n):
    """n restores, each with a cut after the answer."""
    server, live = server_apart(servers, image, base, mode)
    name = server.create()["filename"]
    for _ in range(n):
        application = shells(live)
        application.sql("PRAGMA synchronous=EXTRA")
        application.sql("DELETE FROM item WHERE id>100")
        if not is_open:
            application.close()
        safety = server.restore(name)
        cut_now(server, image, application if is_open else None)
        assert count_items(live) == 500
        assert dbfile.integrity(live) == "ok"
        assert count_items(server.backup_path(safety, "app")) == 100


def server_apart(servers, image, base, mode):
    """Only the live database is on the image, so that no sync of ours beside
    it does what the restore itself must do."""
    live = dbfile.make(image.folder / "srv" / "app.db", rows=500, journal=mode)
    server = servers(args=["--database-root", str(live.parent)])
    server.start()
    assert server.post(DATABASES, {"name": "app", "path": str(live)}).status == 201
    assert server.patch(DATABASES + "/current", {"name": "app"}).status == 200
    image.sync()
    return server, live


@pytest.mark.parametrize("kind", FILESYSTEMS)
def test_missing_file_is_put_back_whole_or_not_at_all(servers, mounts, base, kind):
    """A restore where there is no file: cut before each durable call."""
    image = mounts.image(kind)
    server = small_server(servers, image, base, "delete")
    name = server.create()["filename"]
    acknowledged = []
    for call in DURABLE_CALLS + ("linkat",):
        for n in range(1, 9):
            server.live().unlink(missing_ok=True)
            image.sync()
            tracer = Tracer(server, call, f"signal=KILL:when={n}")
            hit = Cut(server, image, None, random.Random(0))
            acknowledged.append(hit.run("restore", name, "call", 0))
            tracer.close()
            image.remount()
            server.start()
            assert set(os.listdir(server.live().parent)) <= {"app.db"}
            assert server.live().exists() or not acknowledged[-1]
            if server.live().exists():
                dbfile.assert_backup_ok(server.live())
                assert count_items(server.live()) == 500
            if acknowledged[-1]:
                break
    assert acknowledged.count(False) >= 3, acknowledged


# ---- controls: a sync is left out ----


def lose(server, image, paths, operation):
    """Whether what was acknowledged is lost when these syncs do nothing."""
    tracer = Tracer(server, SYNCS, "retval=0", paths)
    lost = operation()
    cut_now(server, image)
    tracer.close()
    return lost()


def create(server):
    name = server.create()["filename"]
    return lambda: name not in server.backups()


def delete(server):
    name = server.backups()[0]
    server.remove(name)
    return lambda: name in server.backups()


def register(server):
    names = ("one", "two", "three", "four", "five", "six")
    have = {entry["name"] for entry in server.get(DATABASES).json()["databases"]}
    name = next(name for name in names if name not in have)
    before = server.get(DATABASES + "/current").json()["current"]
    assert server.post(DATABASES, {"name": name}).status == 201
    assert server.patch(DATABASES + "/current", {"name": name}).status == 200
    current = DATABASES + "/current"
    return lambda: server.get(current).json()["current"] == before


SYNCS = "fsync,fdatasync"
CONTROLS = {
    "create, folders": (create, ("backups/default", "tmp")),
    "create, all": (create, ()),
    "delete, folder": (delete, ("backups/default",)),
    "delete, all": (delete, ()),
    "catalog, all": (register, ()),
}


@pytest.mark.parametrize("kind", FILESYSTEMS)
@pytest.mark.parametrize("what", CONTROLS)
def test_control_without_a_sync_it_is_lost(servers, mounts, base, report, kind, what):
    operation, names = CONTROLS[what]
    image = mounts.image(kind)
    server = small_server(servers, image, base)
    lost = 0
    for _ in range(CONTROL):
        server.create()
        image.sync()
        paths = [server.data / name for name in names]
        lost += lose(server, image, paths, lambda: operation(server))
    report(f"Power cuts without a sync ({what}), {kind}: {lost} of {CONTROL} lost")
    assert lost >= CONTROL - 1


@pytest.mark.parametrize("kind", FILESYSTEMS)
def test_control_without_the_sync_of_its_folder_a_restore_is_lost(
    servers, mounts, base, report, kind
):
    """In rollback mode the journal comes back, which EXTRA is there against."""
    image = mounts.image(kind)
    server, live = server_apart(servers, image, base, "delete")
    name = server.create()["filename"]
    lost = 0
    for _ in range(CONTROL):
        dbfile.execute(live, "DELETE FROM item WHERE id>100")
        image.sync()
        tracer = Tracer(server, SYNCS, "retval=0", [live.parent])
        server.restore(name)
        cut_now(server, image)
        tracer.close()
        lost += count_items(live) == 100
        assert dbfile.integrity(live) == "ok"
    report(f"Power cuts without a sync (restore), {kind}: {lost} of {CONTROL} lost")
    assert lost >= CONTROL - 1
