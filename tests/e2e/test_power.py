"""P2, P3, P4: what was acknowledged survives the loss of power, whole.

Filesystems in images are shut down by ioctl, nothing flushed, in the middle
of creates, restores, deletes and changes of the catalog: at named steps,
before each call that makes something durable, after the answer, at random
moments.  Then the server is killed, the image mounted again, everything
started and checked.  The controls leave out a sync and must show the loss.
"""

import random
import time

import pytest

import app
import dbfile
from power import PowerCuts, WriterCuts, place
from test_kill import Falls, make_database

FILESYSTEMS = ("ext4", "xfs")

# For each filesystem and journal mode: after the answer, and at random.
ANSWERED = 2
RANDOM = 2
UNDER_WRITER = 10  # for each mode
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


@pytest.mark.parametrize("operation", STEPS)
def test_power_cut_before_each_durable_call(campaign, report, operation):
    for mode in dbfile.JOURNAL_MODES if operation == "restore" else ["wal"]:
        n = campaign("ext4", mode).sweep(operation)
        report(f"Power cuts before each durable call of {operation}, {mode}: {n}")


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_power_cut_under_a_writer_loses_no_commit(
    servers, mounts, base, report, seed, mode
):
    run_under_writer(servers, mounts, base, report, seed, mode, "ext4", UNDER_WRITER)


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
