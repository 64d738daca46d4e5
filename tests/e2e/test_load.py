"""P9 and 503: many clients, slow clients, and limits that are reached.

A good request is answered rightly whatever others do: thousands of
connections that drip, fifty databases backed up at once while applications
write to them, no descriptor left, the server asked to stop or killed in the
middle of it all.  HOLDFAST_SOAK_S says how long the soak variants take.
"""

import collections
import hashlib
import http.client
import json
import os
import random
import resource
import sqlite3
import threading
import time

import pytest

import dbfile
import load
from app import Process
from server import BACKUP, BIN, DEADLINE_S
from server import Response, check_response, parse_head, wait_for

LOAD_S = float(os.environ.get("HOLDFAST_LOAD_S", "25"))
SOAK_S = float(os.environ.get("HOLDFAST_SOAK_S", "600"))
SLOW = min(2000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 8)
FLEET = 50
MEMORY_KIB = 64 << 10
SANITIZED = "san-" in str(BIN)  # its memory says nothing


def status_kib(server, field):
    """A field of /proc/PID/status."""
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1])
    raise AssertionError(field)


def assert_memory_bounded(server, report, what):
    peak = status_kib(server, "VmHWM")
    report(f"{what}: {peak >> 10} MiB of memory at most")
    assert SANITIZED or peak <= MEMORY_KIB, f"{peak} KiB"


def ask_all(server, requests):
    """All at once; every answer checked as any other."""
    responses = []
    answers = load.ask_all(server.port, requests, DEADLINE_S)
    for (method, target), data in zip(requests, answers):
        head, _, body = data.partition(b"\r\n\r\n")
        assert head, f"no answer to {method} {target}"
        response = Response(*parse_head(head), body)
        check_response(method, target, response)
        responses.append(response)
    return responses


def holds_nothing(server, database):
    """Whether no connection of the server's holds the live database."""
    with dbfile.opened(server.live(database)) as db:
        busy = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    live = str(server.live(database))
    return not busy and not [p for p in server.descriptors() if p.startswith(live)]


# ---- thousands that drip, fifty that write ----


class Work:
    """Good requests on a fleet of databases; each must succeed."""

    def __init__(self, server, names, rng):
        self.server = server
        self.names = names
        self.rng = rng
        self.counts = collections.Counter()

    def all_200(self, requests):
        responses = ask_all(self.server, requests)
        assert {r.status for r in responses} == {200}, responses
        for method, target in requests:
            word = target.split("?")[0].rpartition("/")[2]
            self.counts[method, word if "." not in word else ""] += 1
        return responses

    def round(self):
        """A backup of each at once, then a restore, a download and the like."""
        at = [f"?database={name}" for name in self.names]
        made = self.all_200([("POST", BACKUP + a) for a in at])
        files = [json.loads(r.body)["filename"] for r in made]
        for kind, method in (("restore", "POST"), ("verify", "POST")):
            i = self.rng.randrange(len(at))
            target = f"{BACKUP}/{files[i]}/{kind}{at[i]}"
            self.all_200([(method, target)])
        self.download(files, at)
        old = []
        for a in at:
            listed = self.all_200([("GET", BACKUP + a)])[0]
            for entry in json.loads(listed.body)["backups"][2:]:
                old.append(("DELETE", f"{BACKUP}/{entry['filename']}{a}"))
        if old:
            self.all_200(old)
        self.check(files)

    def download(self, files, at):
        i = self.rng.randrange(len(at))
        target = f"{BACKUP}/{files[i]}/download{at[i]}"
        for answer in self.all_200([("GET", target)] * 5):
            tag = answer.header("ETag").strip('"')
            assert hashlib.sha256(answer.body).hexdigest() == tag

    def check(self, files):
        """Each of the copies just made is one state of its database."""
        for name, file in zip(self.names, files):
            path = self.server.backup_path(file, name)
            db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            assert load.entries_problem(db) is None, path
            db.close()


def prepare_fleet(server, n):
    names = [f"fleet{i}" for i in range(n)]
    for i, name in enumerate(names):
        load.make_entries(server.live(name), dbfile.JOURNAL_MODES[i % 2])
    server.start()
    return names


def run_load(servers, base, report, seed, seconds):
    server = servers()
    server.prepare(dbfile.make(base / "x.db", rows=60000))  # 24 MB, to stall
    names = prepare_fleet(server, FLEET)
    work = Work(server, names, random.Random(seed))
    large = server.create()["filename"]
    work.round()
    before = len(server.descriptors())
    herd = Process("herd", server.port, large, SLOW, source=load.SOURCE)
    probe = Process("probe", server.port, BACKUP, source=load.SOURCE)
    paths = [server.live(name) for name in names]
    fleet = Process("fleet", *paths, source=load.SOURCE)
    try:
        wait_for(lambda: herd.ask("look")["opened"] >= SLOW * 9 // 10, "the herd")
        end = time.monotonic() + seconds
        rounds = 0
        while time.monotonic() < end or rounds == 0:
            work.round()
            rounds += 1
            assert holds_nothing(server, "default"), "a stalled download holds it"
        seen, wrote = probe.ask("stop"), fleet.ask("stop")
        herd.ask("hold")
        # With its clients still dripping, the server gives them all up.
        wait_for(
            lambda: len(server.descriptors()) <= before + 2,
            f"descriptors to be {before} again, now {len(server.descriptors())}",
        )
        slow = herd.ask("stop")
    finally:
        for process in (herd, probe, fleet):
            process.kill()
    report(
        f"Load: {slow['opened']} slow connections ({SLOW} at a time), "
        f"{sum(work.counts.values())} good requests in {rounds} rounds, all 200"
    )
    report(
        f"Load: the list meanwhile, {seen['n']} times: p50 {seen['p50']:.1f} ms, "
        f"p99 {seen['p99']:.1f} ms, max {seen['max']:.1f} ms"
    )
    report(
        f"Load: {wrote['commits']} commits beside it, "
        f"the longest took {wrote['longest_wait_s'] * 1000:.0f} ms"
    )
    assert_memory_bounded(server, report, "Load")
    assert seen["failed"] == [] and wrote["errors"] == []
    for kind in ("idle", "headers", "body"):
        assert slow["closed"][kind] > 0
        assert slow["longest_s"][kind] < 60, slow
    for name in names:
        with dbfile.opened(server.live(name)) as db:
            assert load.entries_problem(db) is None, name
    server.stop()


def test_good_requests_beside_thousands_that_drip(servers, base, report, seed):
    run_load(servers, base, report, seed, LOAD_S)


@pytest.mark.soak
def test_load_for_a_long_time(servers, base, report, seed):
    run_load(servers, base, report, seed, SOAK_S)


# ---- sixty-four clients that do everything ----

KINDS = {
    "create": {200, 503, 507},
    "list": {200},
    "download": {200, 404, 503},
    "details": {200, 404, 503},
    "verify": {200, 404, 409, 503},
    "restore": {200, 404, 409, 503, 507},
    "delete": {200, 404, 409, 503},
}
ABSENT = "app_20200101_000000.db"


def call(server, kind, database, name):
    """One request of a kind that KINDS names."""
    tail, at = f"{BACKUP}/{name}", f"?database={database}"
    if kind in ("create", "list"):
        return server.request("POST" if kind == "create" else "GET", BACKUP + at)
    if kind == "delete":
        return server.delete(tail + at)
    if kind in ("verify", "restore"):
        return server.post(f"{tail}/{kind}{at}")
    return server.get(tail + ("/download" if kind == "download" else "") + at)


def assert_whole(response):
    """A download that was answered with 200 is all of the backup."""
    assert len(response.body) == int(response.header("Content-Length"))
    tag = response.header("ETag").strip('"')
    assert hashlib.sha256(response.body).hexdigest() == tag


def on_threads(n, work):
    """Run work(i) on n threads; what they raised fails the test."""
    wrong = []

    def run(i):
        try:
            work(i)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(n)]
    for thread in threads:
        thread.start()
    return threads, wrong


def join(threads, wrong):
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


def small_databases(server, n):
    """The names of n small databases, half of each journal mode."""
    names = [f"db{i}" for i in range(n)]
    for i, name in enumerate(names):
        path, mode = server.live(name), dbfile.JOURNAL_MODES[i % 2]
        dbfile.make(path, rows=1500, journal=mode)
    return names


def test_sixty_four_clients_get_no_fault(servers, report, seed):
    server = servers()
    names = small_databases(server, 4)
    server.start()
    listed = {name: [server.create(name)["filename"]] for name in names}
    before = len(server.descriptors())
    counts = collections.Counter()

    def client(i):
        rng = random.Random(f"{seed}-{i}")
        for _ in range(8):
            kind, name = rng.choice(list(KINDS)), rng.choice(names)
            backup = rng.choice(listed[name] or [ABSENT])
            response = call(server, kind, name, backup)
            counts[response.status] += 1
            assert response.status in KINDS[kind], (kind, response)
            if kind == "list":
                backups = response.json()["backups"]
                listed[name] = [entry["filename"] for entry in backups]
            elif kind == "download" and response.status == 200:
                assert_whole(response)

    join(*on_threads(64, client))
    report(f"64 clients: {sum(counts.values())} requests, {dict(counts)}")
    assert_memory_bounded(server, report, "64 clients")
    wait_for(
        lambda: abs(len(server.descriptors()) - before) <= 2,
        f"descriptors to be {before} again",
    )
    for name in names:
        assert dbfile.integrity(server.live(name)) == "ok"
        for backup in server.backups(name):
            dbfile.assert_backup_ok(server.backup_path(backup, name))


# ---- descriptors ----


def test_a_crowd_with_few_descriptors_does_no_harm(servers, base, report):
    """64 descriptors, hundreds of clients: 503 or an answer, and it goes on."""
    server = servers(wrapper=["prlimit", "--nofile=64:64"])
    server.prepare(dbfile.make(base / "x.db", rows=20000))
    server.start()
    pid = server.process.pid
    name = server.create()["filename"]
    before = len(server.descriptors())
    crowd = [server.connect() for _ in range(200)]
    for sock in crowd[::2]:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
    # Those who only wait give way.
    for _ in range(5):
        assert server.get(BACKUP).status == 200
        response = server.post(BACKUP)
        assert response.status in (200, 503), response
        server.restore(name)
    ask = f"GET {BACKUP}/{name}/download HTTP/1.1\r\nHost: localhost\r\n\r\n"
    readers = [server.connect() for _ in range(200)]
    for sock in readers:
        sock.sendall(ask.encode())
    statuses = collections.Counter()
    for sock in readers[:16]:
        sock.settimeout(DEADLINE_S)
        head = sock.recv(4096)
        statuses[head.split(b" ")[1] if head else b"closed"] += 1
    for sock in crowd + readers:
        sock.close()
    report(f"64 descriptors: downloads in the crowd {dict(statuses)}")
    assert set(statuses) <= {b"200", b"503", b"closed"}
    wait_for(lambda: len(server.descriptors()) <= before + 2, "the crowd to go")
    assert hashlib.sha256(server.download(name)).hexdigest() == server.details(name)["sha256"]
    assert server.create() and server.process.pid == pid
    assert "status=500" not in server.log()
    # And it stops, whatever slow ones are still there.
    last = [server.connect() for _ in range(20)]
    for sock in last[::2]:
        sock.sendall(ask.encode())
        sock.recv(1)
    start = time.monotonic()
    server.stop()
    report(f"64 descriptors: stopped in {time.monotonic() - start:.1f} s")
    for sock in last:
        sock.close()


class Scarce:
    """A server that can open so many descriptors more, for one request."""

    def __init__(self, server):
        self.server = server
        self.pid = server.process.pid
        self.limit = resource.prlimit(self.pid, resource.RLIMIT_NOFILE)

    def request(self, free, method, target):
        with self.server.connect() as sock:
            text = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            sock.sendall(text.encode())
            wait_for(lambda: self.accepted(sock), "the connection")
            self.allow(free)
            try:
                sock.sendall(b"\r\n")
                data = b""
                while more := sock.recv(1 << 16):
                    data += more
            finally:
                resource.prlimit(self.pid, resource.RLIMIT_NOFILE, self.limit)
        head, _, body = data.partition(b"\r\n\r\n")
        response = Response(*parse_head(head), body)
        check_response(method, target, response)
        return response

    def accepted(self, sock):
        """Whether the server has it: its end is a socket of the process's."""
        ends = [self.server.port, sock.getsockname()[1]]
        opened = self.server.descriptors()
        with open("/proc/net/tcp", encoding="ascii") as file:
            for row in [line.split() for line in file][1:]:
                if [int(at.split(":")[1], 16) for at in row[1:3]] == ends:
                    return f"socket:[{row[9]}]" in opened
        return False

    def allow(self, free):
        """The numbers below the limit that are not taken are `free`."""
        taken = {int(n) for n in os.listdir(f"/proc/{self.pid}/fd")}
        limit = 0
        while free or limit in taken:
            free -= limit not in taken
            limit += 1
        resource.prlimit(self.pid, resource.RLIMIT_NOFILE, (limit, self.limit[1]))


MOST_NEEDED = 40  # descriptors for any one request
NEEDY = ("create", "restore", "delete", "verify", "download")


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_descriptors_run_out_at_every_point(servers, base, report, mode):
    """With none left, one left, two left, …: done, or 503 and nothing done."""
    server = servers()
    server.prepare(dbfile.make(base / "x.db", rows=500, journal=mode))
    server.start()
    scarce = Scarce(server)
    refused = collections.Counter()
    for operation in NEEDY:
        free = served = 0
        while served < 2:
            assert free < MOST_NEEDED, (operation, "was refused with so many")
            done = scarcely(server, scarce, operation, free)
            served += done
            refused[operation] += not done
            free += 1
    report(f"Descriptors, {mode}: refused {dict(refused)}, nothing changed")
    assert all(refused[operation] for operation in NEEDY)
    assert dbfile.integrity(server.live()) == "ok"
    for name in server.backups():
        dbfile.assert_backup_ok(server.backup_path(name))


def scarcely(server, scarce, operation, free):
    """One operation with so many descriptors; whether it succeeded."""
    name = (server.backups() or [server.create()["filename"]])[-1]
    dbfile.execute(server.live(), "UPDATE item SET text=text||'+' WHERE id=1")
    live = dbfile.content_digest(server.live())
    listed = server.backups()
    method, target = {
        "create": ("POST", BACKUP),
        "restore": ("POST", f"{BACKUP}/{name}/restore"),
        "delete": ("DELETE", f"{BACKUP}/{name}"),
        "verify": ("POST", f"{BACKUP}/{name}/verify"),
        "download": ("GET", f"{BACKUP}/{name}/download"),
    }[operation]
    response = scarce.request(free, method, target)
    where = (operation, free, response)
    assert response.status in (200, 503), where
    assert os.listdir(server.data / "tmp") == [], where
    if response.status == 503:
        assert response.json()["details"]["reason"] == "descriptors", where
        assert server.backups() == listed, where
        assert dbfile.content_digest(server.live()) == live, where
        return False
    if operation in ("create", "restore"):
        # A safety copy that could not be proven just then is, a little later.
        wait_for(lambda: set(server.backups()) - set(listed), f"the copy of {where}")
    if operation == "download":
        assert_whole(response)
    return True


# ---- stopped, or killed, in the middle of it all ----


class Storm:
    """Clients that do everything at once, until the server is gone.

    What each was told is kept: a backup that was acknowledged must be there
    afterwards, one that was deleted must not.
    """

    def __init__(self, server, names, seed):
        self.server = server
        self.names = names
        self.rng = random.Random(seed)
        self.counts = collections.Counter()
        self.lock = threading.Lock()
        self.present = {name: set() for name in names}
        self.doubt = {name: set() for name in names}
        self.gone = {name: set() for name in names}
        self.checked = set()
        self.slowest_start_s = 0.0

    def client(self, number):
        rng = random.Random(number)
        while not self.over:
            kind, name = rng.choice(list(KINDS)), rng.choice(self.names)
            with self.lock:
                backup = rng.choice(sorted(self.present[name]) or [ABSENT])
                if kind == "delete":
                    self.present[name].discard(backup)
                    self.doubt[name].add(backup)
            try:
                response = call(self.server, kind, name, backup)
            except (OSError, http.client.HTTPException) as error:
                self.counts[type(error).__name__] += 1
                self.broken.append(error)
                return
            self.learn(kind, name, backup, response)

    def learn(self, kind, name, backup, response):
        assert response.status in KINDS[kind] | {503}, (kind, response)
        if kind == "download" and response.status == 200:
            assert_whole(response)
        with self.lock:
            self.counts[response.status] += 1
            self.answered += 1
            if response.status != 200:
                return
            if kind == "create":
                self.present[name].add(response.json()["filename"])
            elif kind == "restore":
                self.present[name].add(response.header("Holdfast-Safety-Backup"))
            elif kind == "delete":
                self.doubt[name].discard(backup)
                self.gone[name].add(backup)

    def strike(self, end):
        """A round of load, and the server's end in it; then it starts again."""
        self.over, self.answered, self.broken = False, 0, []
        threads = on_threads(8, lambda i: self.client(self.rng.random() + i))
        goal = self.rng.randrange(4, 60)
        wait_for(lambda: self.answered >= goal or threads[1], "the load")
        helpers = self.server.children()
        end(helpers)
        self.over = True
        join(*threads)
        assert os.listdir(self.server.data / "tmp") == [] or end == self.kill
        start = time.monotonic()
        self.server.start()
        self.slowest_start_s = max(self.slowest_start_s, time.monotonic() - start)

    def stop(self, _):
        self.server.stop()

    def kill(self, helpers):
        self.server.process.kill()
        self.server.wait_killed(helpers)

    def check(self, all_told):
        """The state after a start.  all_told: nobody was left in the dark."""
        assert os.listdir(self.server.data / "tmp") == []
        for name in self.names:
            wait_for(
                lambda n=name: not list(self.server.folder(n).glob("*.pending")),
                "the start to finish",
            )
            assert dbfile.integrity(self.server.live(name)) == "ok"
            listed = set(self.server.backups(name))
            assert self.present[name] <= listed, f"lost: {self.present[name] - listed}"
            assert not listed & self.gone[name]
            unknown = listed - self.present[name] - self.doubt[name]
            assert not (all_told and unknown), f"made, and nobody told: {unknown}"
            for backup in sorted(listed - self.checked):
                dbfile.assert_backup_ok(self.server.backup_path(backup, name))
                self.checked.add(backup)
            self.gone[name] |= self.doubt[name] - listed
            self.doubt[name] = set()
            self.present[name] = listed
            for backup in sorted(listed)[:-8]:
                self.server.remove(backup, name)
                self.present[name].discard(backup)


def run_storm(servers, report, seed, how, rounds):
    server = servers()
    names = small_databases(server, 5)
    server.start()
    storm = Storm(server, names, seed)
    for _ in range(rounds):
        storm.strike(getattr(storm, how))
        storm.check(all_told=how == "stop")
    report(f"Storm: {rounds} times {how} under load, {dict(storm.counts)}")
    report(f"Storm: the slowest start took {storm.slowest_start_s:.2f} s")


STORMS = ("stop", "kill")


@pytest.mark.parametrize("how", STORMS)
def test_ended_under_load_it_keeps_its_word(servers, report, seed, how):
    """SIGTERM: what is under way is finished or refused.  SIGKILL: whole or not."""
    run_storm(servers, report, seed, how, 8)


@pytest.mark.soak
@pytest.mark.parametrize("how", STORMS)
def test_ended_300_times_it_keeps_its_word(servers, report, seed, how):
    run_storm(servers, report, seed, how, 300)


# ---- what others left behind ----


def test_ten_thousand_leftovers_are_cleared_at_start(idle, report):
    tmp = idle.data / "tmp"
    tmp.mkdir(mode=0o700)
    for i in range(10000):
        (tmp / f"stage-{i:05}").touch(0o600)
    start = time.monotonic()
    idle.start()
    report(f"10,000 leftovers: started in {time.monotonic() - start:.2f} s")
    assert os.listdir(tmp) == []
    assert idle.create()
