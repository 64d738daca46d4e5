"""Creating a backup, beside the usual ways of making one."""

import os
import subprocess
import sys
import time

import data
import procs
from figures import Figure, Part, Series

TEXT = """
One database, nobody writing, warm cache; an application has it open (in WAL
mode with some commits still in the WAL). Every way ends with the copy synced;
only Holdfast's is hashed, checked (`quick_check`) and published with its
facts. The ways take turns, run by run. CPU is user and system time of the
processes; of Holdfast the server, its helper and the children that check. What
the kernel writes back in its own threads counts for nobody, which favours the
ways that write through the page cache. `VACUUM INTO` is that of the system's
Python; `cp` copies bytes without regard to the database and is here as the
measure of the disk.
"""

VACUUM_INTO = """
import os, resource, sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("SELECT 1 FROM sqlite_schema").fetchone()
cpu = lambda u: u.ru_utime + u.ru_stime
began, used = time.monotonic(), cpu(resource.getrusage(resource.RUSAGE_SELF))
db.execute("VACUUM INTO ?", (sys.argv[2],))
fd = os.open(sys.argv[2], os.O_RDONLY)
os.fsync(fd)
wall = time.monotonic() - began
print(wall, cpu(resource.getrusage(resource.RUSAGE_SELF)) - used)
"""

MODES = {"wal": "WAL", "delete": "rollback journal"}
VACUUM, SHELL, CP, OURS = "VACUUM INTO", "sqlite3 .backup", "cp", "Holdfast"


def vacuum_into(source, target):
    child = procs.start(
        [sys.executable, "-c", VACUUM_INTO, source, target],
        stdout=subprocess.PIPE,
        text=True,
    )
    out, _ = child.communicate()
    if child.returncode != 0:
        raise procs.Failed("VACUUM INTO failed")
    wall, cpu = out.split()
    return float(wall), float(cpu)


def shell_backup(source, target):
    script = 'sqlite3 "$1" ".backup \'$2\'" && sync "$2"'
    return procs.run_timed(["sh", "-c", script, "sh", source, target])


def copy_file(source, target):
    script = 'cp "$1" "$2" && sync "$2"'
    return procs.run_timed(["sh", "-c", script, "sh", source, target])


def ours(server):
    """Wall and CPU of a POST; the backup goes again afterwards."""
    cpu = server.cpu()
    began = time.monotonic()
    name = server.create()
    wall = time.monotonic() - began
    cpu = server.cpu() - cpu
    server.delete(name)
    return wall, cpu


def measure_mode(bench, server, mode):
    path = server.database()
    target = os.path.join(bench.scratch, "copy.db")
    data.place(bench.base(), path)
    data.set_mode(path, mode)
    app = data.connect(path)  # the application, idle
    app.execute("PRAGMA wal_autocheckpoint=0")
    for i in range(200):
        app.execute("INSERT INTO log(at, what) VALUES(?, 'before')", (i,))
    ways = {
        OURS: lambda: ours(server),
        VACUUM: lambda: vacuum_into(path, target),
        SHELL: lambda: shell_backup(path, target),
        CP: lambda: copy_file(path, target),
    }
    wall = {w: Series(w, "s", []) for w in ways}
    cpu = {w: Series(w, "s", []) for w in ways}
    for run in range(bench.runs):
        for way, measure in ways.items():
            bench.settle()
            app.execute("SELECT sum(length(note)) FROM orders").fetchone()
            seconds, used = measure()
            wall[way].values.append(seconds)
            cpu[way].values.append(used)
            if os.path.exists(target):
                os.unlink(target)
        bench.say(f"create, {mode}, run {run + 1}: " + spoken(wall))
    app.close()
    return wall, cpu


def spoken(wall):
    return ", ".join(f"{w} {s.values[-1]:.2f} s" for w, s in wall.items())


def measure(bench):
    results = {}
    with procs.Holdfast(bench.program, bench.folder("create")) as server:
        for mode in MODES:
            results[mode] = measure_mode(bench, server, mode)
    bench.remove("create")
    rows, series = [], []
    for mode, (wall, cpu) in results.items():
        for way in wall:
            rows.append(
                [MODES[mode], way, wall[way].text(), cpu[way].text()]
                + [f"{wall[way].median / wall[VACUUM].median:.2f}"]
                + [f"{cpu[way].median / cpu[VACUUM].median:.2f}"]
            )
            for what, s in (("wall", wall[way]), ("CPU", cpu[way])):
                raw = Series(f"create, {mode}, {what}, {way}", "s", s.values)
                series.append(raw)
    wall, cpu = results["wal"]
    figures = [
        Figure("create, wall time", wall[OURS], wall[VACUUM], 0.5),
        Figure("create, wall time", wall[OURS], wall[CP], 1.6),
        Figure("create, CPU", cpu[OURS], cpu[VACUUM], 0.9),
    ]
    head = ["journal mode", "way", "wall time", "CPU", "wall ÷ VACUUM INTO"]
    head.append("CPU ÷ VACUUM INTO")
    return Part("Creating", TEXT.strip(), head, rows, figures, series)
