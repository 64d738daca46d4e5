"""Long runs, chosen with -m soak: more kills, more load, for longer.

HOLDFAST_SOAK_S says how many seconds each of them takes (600 by default).
"""

import os
import random
import time

import pytest

import app
import dbfile
import load
from app import Process
from server import wait_for
from test_kill import Campaign, Falls, make_database, make_plan
from test_p3_restore import ByServer, Ledger, journal, restore_once

SOAK_S = float(os.environ.get("HOLDFAST_SOAK_S", "600"))
pytestmark = pytest.mark.soak


def resident_kib(server):
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise AssertionError("no VmRSS")


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_restores_for_a_long_time(servers, report, seed, mode):
    """No commit lost, memory and descriptors level, the WAL bounded."""
    server = servers()
    live = server.live()
    live.parent.mkdir(parents=True, mode=0o700)
    app.make_bank(live, mode, 4096, 0)
    server.start()
    rng = random.Random(seed)
    way = ByServer(server)
    end = time.monotonic() + SOAK_S
    with app.Bank(live, server.base, seed, mode) as bank:
        ledger, names = app_ledger(bank), [way.create()]
        level = None
        while time.monotonic() < end:
            bank.progress(2, wait_for)
            names.append(restore_once(way, bank, ledger, rng.choice(names)))
            if rng.randrange(3) == 0:
                names.append(way.create())
            while len(names) > 20:
                server.remove(names.pop(0))
            if len(ledger.windows) == 50:
                level = (resident_kib(server), len(server.descriptors()))
        seen = bank.stop()
    ledger.close(journal(live, readonly=False), seen["commits"])
    wait_for(lambda: len(server.descriptors()) <= level[1] + 2, "descriptors to close")
    grown = resident_kib(server) - level[0]
    report(f"Soak, {mode}: {len(ledger.windows)} restores, {ledger.count()}")
    report(f"Soak, {mode}: memory grew by {grown} KiB since the 50th")
    assert seen["mixed"] == [] and seen["errors"] == []
    assert ledger.count() == {"lost": 0, "gaps": 0}
    assert grown < 4096


def app_ledger(bank):
    return Ledger(len(bank.writers))


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_kill_for_a_long_time(servers, shells, base, report, seed, mode):
    rng = random.Random(f"{seed}-{mode}")
    falls = Falls()
    server = servers()
    server.prepare(make_database(base / "x.db", mode))
    server.start()
    campaign = Campaign(server, shells(server.live()), rng, falls)
    end = time.monotonic() + SOAK_S
    while time.monotonic() < end:
        campaign.run(make_plan(rng))
    for line in falls.lines():
        report(f"Soak, {mode}: {line}")


@pytest.mark.parametrize("rate,wal_mib", [(10, 100), (500, 500), (1000, 300)])
def test_steady_writes_for_a_long_time(servers, report, rate, wal_mib):
    """Restored and validated every 30 s; memory, descriptors and WAL level."""
    server = servers()
    live = server.live()
    load.make_entries(live, "wal")
    server.start()
    wal = live.with_name("app.db-wal")
    largest, rounds, seen = 0, 0, []
    writer = Process("pace", live, rate, source=load.SOURCE)
    try:
        end = time.monotonic() + SOAK_S
        while time.monotonic() < end or rounds < 2:
            goal = writer.ask("look")["passed_s"] + 30
            wait_for(lambda: writer.ask("look")["passed_s"] >= goal, "30 s of writes")
            name = server.create()["filename"]
            server.restore(name)
            for backup in server.backups()[:2]:
                path = server.backup_path(backup)
                dbfile.assert_backup_ok(path)
                with dbfile.opened(path, readonly=True) as db:
                    assert load.entries_problem(db) is None
            for backup in server.backups()[4:]:
                server.remove(backup)
            largest = max(largest, wal.stat().st_size)
            seen.append((resident_kib(server), len(server.descriptors())))
            rounds += 1
        wrote = writer.ask("stop")
    finally:
        writer.kill()
    half = len(seen) // 2
    grown = max(seen[half:])[0] - max(seen[: half + 1])[0]
    report(f"Soak, {rate} writes/s: {wrote['commits']} commits, {rounds} restores")
    report(f"Soak, {rate} writes/s: WAL at most {largest >> 20} MiB, {grown} KiB more")
    assert wrote["errors"] == []
    assert largest <= wal_mib << 20
    assert seen[-1][1] <= seen[0][1] + 2
    assert grown <= 1024
