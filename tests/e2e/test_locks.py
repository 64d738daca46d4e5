"""Locks kept: no call of ours drops a lock that SQLite holds.

A process loses all its POSIX locks on a file when it closes any descriptor on
it; acknowledged commits then vanish.  An application's locks stay through
every call; its commits stay when we have had the database open meanwhile; and
a trace of the server's system calls shows no descriptor on a live file closed
while a lock on that file is held.

The controls: an application that looks into its own database file loses its
commits, and a server that is made to look into the file it has locked is
found by the trace.
"""

import collections
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

import dbfile
from server import BACKUP, DATABASES


def every_call(server, name):
    """Each call of the API once, whatever it answers."""
    paths = [
        ("GET", "/healthz"),
        ("GET", DATABASES),
        ("GET", DATABASES + "/default"),
        ("GET", DATABASES + "/current"),
        ("GET", DATABASES + "/default/backups"),
        ("GET", BACKUP),
        ("POST", BACKUP),
        ("GET", f"{BACKUP}/{name}"),
        ("GET", f"{BACKUP}/{name}/download"),
        ("POST", f"{BACKUP}/{name}/verify"),
        ("POST", f"{BACKUP}/{name}/restore"),
        ("DELETE", f"{BACKUP}/{name}"),
        ("DELETE", DATABASES + "/default"),
    ]
    return {f"{m} {p}": server.request(m, p).status for m, p in paths}


def locks_of(pid, folder):
    """The locks of a process on the files of a folder.

    The kernel may leave lines out of /proc/locks while others change: it is
    read until it says the same several times.
    """
    same, last = 0, None
    while same < 5:
        now = read_locks(pid, folder)
        same = same + 1 if now == last else 0
        last = now
    return last


def read_locks(pid, folder):
    """The lines of /proc/locks of a process on the files of a folder."""
    inodes = {str(path.stat().st_ino) for path in folder.iterdir()}
    found = []
    with open("/proc/locks", encoding="ascii") as file:
        for line in file:
            fields = line.split()
            if fields[4] == str(pid) and fields[5].split(":")[2] in inodes:
                found.append(tuple(fields[1:4] + fields[5:]))
    return sorted(found)


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_locks_of_the_application_stay(servers, shells, base, mode):
    server = servers(args=["--busy-timeout", "1"])
    live = server.prepare(dbfile.make(base / "x.db", journal=mode))
    server.start()
    name = server.create()["filename"]
    application, other = shells(live), shells(live, 0)
    application.sql("BEGIN IMMEDIATE")
    application.sql("UPDATE item SET text='mine' WHERE id=1")
    before = locks_of(application.pid, live.parent)
    assert before
    statuses = every_call(server, name)
    assert statuses[f"POST {BACKUP}/{name}/restore"] == 503
    assert statuses[f"GET {BACKUP}/{name}/download"] == 200
    assert locks_of(application.pid, live.parent) == before
    answer = other.ask("BEGIN IMMEDIATE")
    assert "locked" in answer.get("error", ""), "another process could write"
    application.sql("COMMIT")
    assert dbfile.integrity(live) == "ok"


@pytest.mark.parametrize("restore", [False, True], ids=["create", "restore"])
def test_commits_stay_when_others_close(servers, shells, base, report, restore):
    """Idle connection, our calls, another process closes, 50 commits, kill."""
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db"))
    server.start()
    name = server.create()["filename"]
    application = shells(live)
    application.sql("INSERT INTO item(text) VALUES('before')")
    server.create()
    if restore:
        server.restore(name)
    server.create()
    dbfile.execute(live, "INSERT INTO item(text) VALUES('other')")
    for _ in range(50):
        application.sql("INSERT INTO item(text) VALUES('acknowledged')")
    application.kill()
    count = "SELECT count(*) FROM item WHERE text='acknowledged'"
    found = dbfile.query(live, count)[0][0]
    report(f"Locks: {found} of 50 acknowledged rows visible")
    assert found == 50


LOOK_INTO_IT = """
import os, sqlite3, subprocess, sys
path, look = sys.argv[1], sys.argv[2] == "look"
db = sqlite3.connect(path, isolation_level=None)
db.execute("INSERT INTO item(text) VALUES('before')")
if look:
    with open(path, "rb") as file:
        file.read(16)
other = "import sqlite3; db = sqlite3.connect(%r, isolation_level=None);" % path
other += "db.execute('INSERT INTO item(text) VALUES(0)'); db.close()"
subprocess.run([sys.executable, "-c", other], check=True)
for _ in range(50):
    db.execute("INSERT INTO item(text) VALUES('acknowledged')")
os._exit(0)
"""


@pytest.mark.parametrize("look", [False, True], ids=["no look", "look"])
def test_control_commits_vanish_when_the_file_is_opened(base, report, look):
    """The same by an application that opens, reads and closes its own file."""
    path = dbfile.make(base / "x.db")
    command = ["/usr/bin/python3", "-c", LOOK_INTO_IT, path, "look" if look else ""]
    subprocess.run(command, check=True)
    count = "SELECT count(*) FROM item WHERE text='acknowledged'"
    found = dbfile.query(path, count)[0][0]
    how = "after one look into the file" if look else "otherwise"
    report(f"Locks control: {found} of 50 acknowledged rows visible {how}")
    assert found == (0 if look else 50)


# ---- the trace ----

UNFINISHED = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")


def whole_lines(lines):
    """Put together the calls that strace tore apart, at their end."""
    torn = {}
    for line in lines:
        unfinished, resumed = UNFINISHED.match(line), RESUMED.match(line)
        if unfinished:
            pid, name, start = unfinished.groups()
            torn[pid] = (name, start)
        elif resumed and resumed.group(1) in torn:
            pid, name, rest = resumed.groups()
            _, start = torn.pop(pid)
            yield f"{pid} {name}({start}{rest}"
        else:
            yield line


class Trace:
    """Descriptors and locks of one process on the files beside a database."""

    def __init__(self, prefix):
        self.prefix = prefix
        self.files = {}  # descriptor: path
        self.looks = {}  # likewise, with O_PATH: closing these drops no lock
        self.locks = collections.defaultdict(set)  # path: locked ranges
        self.opened = collections.Counter()
        self.wrong = []

    def feed(self, lines):
        for line in whole_lines(lines):
            match = re.match(r"^\d+ +(\w+)\((.*)\) += (-?\d+)", line)
            if match:
                self.call(match.group(1), match.group(2), int(match.group(3)))

    def call(self, name, args, result):
        if name in ("open", "openat", "openat2") and result >= 0:
            self.on_open(args, result)
        elif name == "close":
            self.on_close(int(args))
        elif name == "fcntl" and result == 0:
            self.on_fcntl(args)
        elif name in ("dup", "dup2", "dup3") and result >= 0:
            number = int(args.split(",")[0])
            if number in self.files:
                self.wrong.append(f"a second descriptor on {self.files[number]}")

    def on_open(self, args, result):
        path = re.search(r'"([^"]*)"', args).group(1)
        self.files.pop(result, None)
        self.looks.pop(result, None)
        again = re.match(r"/proc/self/fd/(\d+)$", path)
        if again:
            path = self.looks.get(int(again[1]), path)
        if "O_PATH" in args:
            self.looks[result] = path
        elif path.startswith(self.prefix):
            self.files[result] = path
            self.opened[path] += 1

    def on_close(self, number):
        self.looks.pop(number, None)
        path = self.files.pop(number, None)
        if path is None:
            return
        others = path in self.files.values()
        held = self.locks[path]
        if held and (others or not path.endswith("-shm")):
            self.wrong.append(f"closed {path} with locks {sorted(held)}")
        held.clear()

    def on_fcntl(self, args):
        match = re.match(r"(\d+), F_(?:OFD_)?SETLKW?, \{(.*)\}", args)
        if not match or int(match.group(1)) not in self.files:
            return
        path = self.files[int(match.group(1))]
        kind = re.search(r"l_type=F_(\w+)", match.group(2)).group(1)
        start = int(re.search(r"l_start=(\d+)", match.group(2)).group(1))
        length = int(re.search(r"l_len=(\d+)", match.group(2)).group(1))
        held = self.locks[path]
        if kind != "UNLCK":
            held.add((start, length))
            return
        end = start + length if length else float("inf")
        for first, count in list(held):
            if start <= first and first + count <= end:
                held.discard((first, count))


def test_control_trace_reports_a_dropped_lock():
    lock = (
        "fcntl(5, F_SETLK, {l_type=F_RDLCK, l_whence=SEEK_SET, l_start=1, l_len=9}) = 0"
    )
    lines = [
        '7 openat(AT_FDCWD, "/d/app.db", O_RDWR) = 5',
        "7 " + lock,
        '8 openat(AT_FDCWD, "/d/app.db", O_RDONLY <unfinished ...>',
        "8 <... openat resumed>) = 6",
        "8 close(6) = 0",
    ]
    trace = Trace("/d/app.db")
    trace.feed(lines)
    assert trace.wrong
    right = Trace("/d/app.db")
    right.feed(lines[:2] + ["7 " + lock.replace("RDLCK", "UNLCK"), "7 close(5) = 0"])
    assert not right.wrong and right.opened["/d/app.db"] == 1
    look = '7 openat2(AT_FDCWD, "/d/app.db", {flags=O_RDONLY|O_PATH}, 24) = 9'
    again = '7 openat(AT_FDCWD, "/proc/self/fd/9", O_RDWR|O_CLOEXEC) = 5'
    looked = Trace("/d/app.db")
    looked.feed([look, again, "7 close(9) = 0", "7 " + lock, look, "7 close(9) = 0"])
    assert not looked.wrong and looked.opened["/d/app.db"] == 1
    looked.feed(["7 close(5) = 0"])
    assert looked.wrong


def traced_calls(server, shells, live):
    """Calls with an application at work, while strace looks on."""
    application = shells(live)
    application.sql("INSERT INTO item(text) VALUES('x')")
    name = server.create()["filename"]
    server.restore(name)
    application.sql("INSERT INTO item(text) VALUES('y')")
    every_call(server, name)
    application.close()
    server.create()
    server.restore(server.backups()[0])


def traced_server(servers, base, mode, *strace):
    """A server under strace, and the file of the trace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    output = base / "trace"
    calls = "trace=open,openat,openat2,close,fcntl,dup,dup2,dup3,clone,clone3"
    server = servers(
        wrapper=["strace", "-f", "-o", str(output), "-e", calls, *strace],
        # It cannot look for leaks while traced.
        env={"ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0"},
    )
    server.prepare(dbfile.make(base / "x.db", rows=2000, journal=mode))
    return server.start(), output


def end_traced(server):
    for pid in server.children():
        os.kill(pid, signal.SIGTERM)
    server.join(0)


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_no_descriptor_is_closed_under_a_lock(servers, shells, base, mode, report):
    server, output = traced_server(servers, base, mode)
    live = server.live()
    traced_calls(server, shells, live)
    end_traced(server)
    main, traces = split_by_process(output, str(live))
    assert traces[main].opened[str(live)] >= 4, traces[main].opened
    wrong = {pid: trace.wrong for pid, trace in traces.items() if trace.wrong}
    report(f"Locks, {mode}: {sum(traces[main].opened.values())} opens of live files")
    assert not wrong


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_control_trace_finds_a_server_that_looks_into_the_file(
    servers, base, mode, report
):
    library = base / "reopen.so"
    source = Path(__file__).with_name("reopen.c")
    build = ["cc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, source]
    subprocess.run([*build, "-ldl"], check=True)
    server, output = traced_server(servers, base, mode, "-E", f"LD_PRELOAD={library}")
    server.post(BACKUP)
    end_traced(server)
    main, traces = split_by_process(output, str(server.live()))
    report(f"Locks control, {mode}: {len(traces[main].wrong)} locks dropped, all seen")
    assert traces[main].wrong


def split_by_process(output, prefix):
    """A Trace for each process: its threads share the table of descriptors."""
    lines = list(whole_lines(output.read_text().splitlines()))
    parent = {}
    for line in lines:
        match = re.match(r"^(\d+) +clone3?\((.*)\) += (\d+)", line)
        if match and "CLONE_FILES" in match.group(2):
            parent[match.group(3)] = match.group(1)
    by_process = collections.defaultdict(list)
    for line in lines:
        pid = line.split(None, 1)[0]
        while pid in parent:
            pid = parent[pid]
        by_process[pid].append(line)
    traces = {}
    for pid, found in by_process.items():
        traces[pid] = Trace(prefix)
        traces[pid].feed(found)
    return lines[0].split(None, 1)[0], traces
