"""No name and no file leads out of the roots.

Names that try to climb, what is no regular file in the place of one, and an
attacker who changes files under the server's hands.  The attacker's files lie
outside of the data directory and hold a mark that must never come out of it.
"""

import os
import re
import shutil
import socket
import threading
from urllib.parse import quote

import pytest

import dbfile
from server import API, BACKUP, DATABASES, wait_for

GOOD = "app_20250101_000000.db"
MARK = b"the mark of somebody else"
NOBODY = 65534

CLIMBS = """
    ../ ..\\ ..%2f %2e%2e/ %2e%2e%2f %252e%252e%252f ..%5c %2e%2e%5c ..%c0%af
    %c0%ae%c0%ae/ ..%ef%bc%8f ..%e2%81%84 .... ..../ ..;/ ..%00/ ..%0d/ ..%09/
    ./ .%2f / // %2f %5c %255c ~/ file:// file:%2f%2f ..%u2216 %uff0e%uff0e/
    ..%252f ..%255c ..%25c0%25af %e0%80%ae%e0%80%ae/ %f0%80%80%ae%f0%80%80%ae/
""".split()
ENDS = """
    etc/passwd etc%2fpasswd holdfast.db app.db app.db-wal holdfast.lock
    app_20250101_000000.db app_20250101_000000.json suspect tmp
""".split()
NAMES = """
    app_20250101_000000.db-wal app_20250101_000000.db-shm
    app_20250101_000000.db-journal app_20250101_000000.json
    app_20250101_000000.pending app_20250101_000000.db/ app_20250101_000000.db%00
    app_20250101_000000.db%00.txt app_20250101_000000.db%20
    app_20250101_000000.db. app_20250101_000000.db::$DATA
    suspect%2fapp_20250101_000000.db .stage-0000000000000000 holdfast.db
    CON NUL app_20250101_000000~1.db %2e %2e%2e
""".split()


def payloads():
    found = [climb * n + end for climb in CLIMBS for n in (1, 6) for end in ENDS[:5]]
    found += [climb + end for climb in CLIMBS[:8] for end in ENDS[5:]]
    found += NAMES + ["x" * 300, "%41" * 100, quote("\u202e" + GOOD)]
    return found


def targets(payload):
    """Every place of a request where a name stands."""
    as_query = payload.replace("#", "%23").replace("&", "%26")
    yield "GET", f"{BACKUP}/{payload}"
    yield "GET", f"{BACKUP}?database={as_query}"
    yield "GET", f"{DATABASES}/{payload}/backups"


def more_targets(payload):
    as_query = payload.replace("#", "%23").replace("&", "%26")
    yield "GET", f"{BACKUP}/{payload}/download?suspect=true"
    yield "POST", f"{BACKUP}/{payload}/restore"
    yield "DELETE", f"{BACKUP}/{payload}"
    yield "POST", f"{BACKUP}/{payload}/verify"
    yield "POST", f"{BACKUP}?database={as_query}"
    yield "DELETE", f"{DATABASES}/{payload}"
    yield "GET", f"{DATABASES}/default/backups?before={as_query}"


def ask(server, method, target):
    target = "".join(c if " " < c < "\x7f" else quote(c) for c in target)
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    return server.raw(head.encode(), method)


OPENED = re.compile(r'open(?:at2?)?\((?:AT_FDCWD|\d+)?(?:<([^>]*)>)?,? ?"([^"]*)"')
ALLOWED = ("/proc/self/", "/dev/null", "/dev/urandom", "/etc/localtime", "/sys/")


def outside(trace, base):
    """What was opened successfully that lies neither below base nor is ours."""
    found = []
    for line in trace.read_text(errors="replace").splitlines():
        match = OPENED.search(line)
        if not match or "= -1" in line:
            continue
        folder, name = match.groups()
        path = os.path.normpath(os.path.join(folder or "/", name))
        if not path.startswith((str(base), *ALLOWED)):
            found.append(line)
    return found


def test_names_that_climb_open_nothing(servers, base, report):
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    trace = base / "trace"
    server = servers(
        wrapper=["strace", "-f", "-y", "-o", str(trace), "-e", "trace=open,openat,openat2"],
        env={"ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0"},
    )
    server.prepare(dbfile.make(base / "x.db"))
    server.start()
    name = server.create()["filename"]
    before = dbfile.tree(server.data)
    # Everything that starting takes has been opened by now.
    started = len(trace.read_bytes())
    n, statuses = 0, {}
    for i, payload in enumerate(payloads()):
        more = more_targets(payload) if i % 5 == 0 else ()
        for method, target in [*targets(payload), *more]:
            response = ask(server, method, target)
            status = response.status if response else None
            assert status in (400, 404, 405, 414, 422), (method, target, response)
            statuses[status] = statuses.get(status, 0) + 1
            n += 1
    assert dbfile.tree(server.data) == before
    assert server.backups() == [name]
    for pid in server.children():
        os.kill(pid, 15)
    server.join(0)
    rest = base / "rest"
    rest.write_bytes(trace.read_bytes()[started:])
    found = outside(rest, base)
    assert not found, found[:10]
    # The filter sees what it should: the start has opened libraries.
    assert outside(trace, base / "nowhere")
    assert len(payloads()) >= 300
    report(f"Paths: {len(payloads())} payloads, {n} requests {statuses}, 0 opens outside")


# ---- what is no regular file ----


def put_strange(kind, path, outer):
    """Something else in the place of a file."""
    if kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    elif kind == "symlink":
        path.symlink_to(outer)
    elif kind == "dangling":
        path.symlink_to(outer.with_name("nothing"))
    elif kind == "device":
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 5))  # /dev/zero
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(path))
    else:
        os.link(outer, path)


STRANGE = ["folder", "FIFO", "symlink", "dangling", "device", "socket"]


def outer_database(base):
    """A database of somebody else's, with the mark in it."""
    folder = base / "outer"
    path = dbfile.make(folder / "secret.db", journal="delete")
    dbfile.execute(path, f"INSERT INTO item(text) VALUES('{MARK.decode()}')")
    folder.chmod(0o755)
    return path


def kinds():
    """Making a device needs root."""
    return [k for k in STRANGE if k != "device" or os.geteuid() == 0]


def test_what_is_no_file_is_no_backup(server, base):
    outer = outer_database(base)
    before = dbfile.file_digest(outer)
    server.create()
    path = server.backup_path(GOOD)
    for kind in kinds():
        put_strange(kind, path, outer)
        assert GOOD not in server.backups()
        for method, tail in [
            ("GET", ""),
            ("GET", "/download"),
            ("POST", "/verify"),
            ("POST", "/restore"),
            ("DELETE", ""),
        ]:
            response = server.request(method, f"{BACKUP}/{GOOD}{tail}")
            assert response.status == 404, (kind, response)
            assert MARK not in response.body
        assert os.path.lexists(path), kind
        remove(path)
    assert dbfile.file_digest(outer) == before


def test_second_name_of_anothers_file_is_no_backup(server, base):
    """One of our own is: whoever keeps snapshots by hard links may go on."""
    if os.geteuid() != 0:
        pytest.skip("giving files away needs root")
    outer = outer_database(base)
    name = server.create()["filename"]
    os.link(server.backup_path(name), base / "snapshot.db")
    assert server.backups() == [name]
    assert server.post(f"{BACKUP}/{name}/verify").json()["state"] == "good"
    os.chown(outer, NOBODY, NOBODY)
    os.link(outer, server.backup_path(GOOD))
    assert server.backups() == [name]
    for tail in ("", "/download", "/download?suspect=true"):
        response = server.get(f"{BACKUP}/{GOOD}{tail}")
        assert response.status == 404 and MARK not in response.body


def remove(path):
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink()


@pytest.mark.parametrize("suffix", ["", "-wal", "-journal", "-shm"])
def test_what_is_no_file_is_no_live_database(servers, base, suffix):
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", journal="delete"))
    content = live.read_bytes()
    server.start()
    name = server.create()["filename"]
    outer = outer_database(base)
    before = dbfile.file_digest(outer)
    strange = live.with_name(live.name + suffix)
    for kind in [*kinds(), "hard link"]:
        strange.unlink(missing_ok=True)
        put_strange(kind, strange, outer)
        for target in (BACKUP, f"{BACKUP}/{name}/restore"):
            response = server.post(target)
            assert (response.status, response.error) == (409, "CONFLICT"), response
            assert re.search("regular|names", response.json()["message"]), response
        assert os.path.lexists(strange), kind
        assert dbfile.file_digest(outer) == before, kind
        remove(strange)
        live.write_bytes(content)
    assert server.backups() == [name]


# ---- an attacker who is quick ----


class Attacker:
    """Changes what stands at a path, again and again, in another thread."""

    def __init__(self, path, content, outer):
        self.path = path
        self.content = content
        self.outer = outer
        self.kinds = ["file", "symlink", "file", "hard link", "FIFO", "file", "dangling"]
        self.flips = 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        fresh = self.path.with_name(f".attacker-{self.path.name}")
        while not self.stop.is_set():
            kind = self.kinds[self.flips % len(self.kinds)]
            fresh.unlink(missing_ok=True)
            if kind == "file":
                fresh.write_bytes(self.content)
            else:
                put_strange(kind, fresh, self.outer)
            fresh.rename(self.path)
            self.flips += 1
        fresh.unlink(missing_ok=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stop.set()
        self.thread.join()
        self.path.unlink(missing_ok=True)


FLIPS = [600, pytest.param(10000, marks=pytest.mark.soak)]


@pytest.mark.parametrize("flips", FLIPS)
def test_backups_that_become_something_else(server, base, report, flips):
    outer = outer_database(base)
    os.chown(outer, NOBODY, NOBODY)
    before = (dbfile.file_digest(outer), outer.stat().st_mtime_ns)
    content = dbfile.make(base / "g.db", rows=20, journal="delete").read_bytes()
    server.create()
    path = server.backup_path(GOOD)
    statuses = {}
    calls = [
        ("GET", ""),
        ("GET", "/download"),
        ("POST", "/verify"),
        ("GET", "/download?suspect=true"),
        ("POST", "/restore"),
    ]
    with Attacker(path, content, outer) as attacker:
        n = 0
        while attacker.flips < flips or n < 60:
            method, tail = calls[n % len(calls)]
            response = server.request(method, f"{BACKUP}/{GOOD}{tail}")
            assert response.status in (200, 404, 422), server.log()[-600:]
            assert MARK not in response.body
            statuses[response.status] = statuses.get(response.status, 0) + 1
            n += 1
    assert (dbfile.file_digest(outer), outer.stat().st_mtime_ns) == before
    for name in server.backups():
        assert MARK not in server.backup_path(name).read_bytes()
    assert MARK not in server.live().read_bytes()
    assert dbfile.integrity(server.live()) == "ok"
    report(f"Backups flipped {attacker.flips} times: {n} calls {statuses}")


@pytest.mark.parametrize("flips", FLIPS)
@pytest.mark.parametrize("suffix", ["", "-journal"])
def test_live_files_that_become_something_else(servers, base, report, suffix, flips):
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", rows=20, journal="delete"))
    content = live.read_bytes() if not suffix else b""
    server.start()
    name = server.create()["filename"]
    outer = outer_database(base)
    os.chown(outer, NOBODY, NOBODY)
    before = (dbfile.file_digest(outer), outer.stat().st_mtime_ns)
    statuses = {}
    path = live.with_name(live.name + suffix)
    with Attacker(path, content, outer) as attacker:
        n = 0
        while attacker.flips < flips or n < 40:
            target = BACKUP if n % 4 else f"{BACKUP}/{name}/restore"
            response = server.post(target)
            assert response.status in (200, 404, 409, 422, 500, 503), server.log()[-900:]
            statuses[response.status] = statuses.get(response.status, 0) + 1
            n += 1
    assert (dbfile.file_digest(outer), outer.stat().st_mtime_ns) == before
    for entry in server.backups():
        assert MARK not in server.backup_path(entry).read_bytes()
    wait_for(lambda: server.get("/healthz").status == 200, "the server")
    report(f"Live file{suffix} flipped {attacker.flips} times: {n} calls {statuses}")


def test_description_has_no_route_that_takes_a_path(server):
    """Names only: a path stands in one field of one call."""
    document = server.get(f"{API}/openapi.json").json()
    for route, methods in document["paths"].items():
        for call in methods.values():
            for parameter in call.get("parameters", []):
                assert parameter.get("name") != "path", route
