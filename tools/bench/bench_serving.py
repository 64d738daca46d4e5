"""Downloads, lists and small requests, beside nginx serving a file of the same
size; and how soon a server answers that has just been started."""

import datetime
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time

import data
import procs
from figures import Figure, Part, Series

TEXT = """
nginx has two workers, sendfile on and its access log off, and serves a file of
exactly the bytes that Holdfast answers with. The download is one `curl` that
throws the bytes away; requests are those of `wrk -t1 -c16` on connections that
stay open. The two servers take turns, run by run. The start is the time from
creating the process until a list of all backups has arrived whole, the client
trying again and again. With a key: the same small list from a server that wants
credentials and from one that does not, in turns.
"""

MANY = 10_000
STARTS = 11
WRK_S = 3
PAGES_SMALL = 1


def download(port, path):
    """MiB a second."""
    url = f"http://127.0.0.1:{port}{path}"
    argv = ["curl", "-sf", "--noproxy", "*", "-o", "/dev/null"]
    child = procs.start(
        argv + ["-w", "%{speed_download}", url], stdout=subprocess.PIPE, text=True
    )
    out, _ = child.communicate()
    if child.returncode != 0:
        raise procs.Failed(f"curl failed: exit status {child.returncode}")
    return float(out) / (1 << 20)


def requests(port, path, key=None):
    """Requests a second."""
    argv = ["wrk", "-t1", "-c16", f"-d{WRK_S}", f"http://127.0.0.1:{port}{path}"]
    if key is not None:
        argv += ["-H", f"Authorization: Bearer {key}"]
    child = procs.start(argv, stdout=subprocess.PIPE, text=True)
    out, _ = child.communicate()
    found = re.search(r"Requests/sec:\s*([\d.]+)", out)
    if child.returncode != 0 or found is None or "Non-2xx" in out:
        raise procs.Failed(f"wrk failed: {out}")
    return float(found[1])


def body_of(port, path):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=procs.PATIENCE_S)
    c.request("GET", path)
    body = c.getresponse().read()
    c.close()
    return body


def clone_backups(server, name, n):
    """Make n backups of one: the same bytes under earlier names."""
    folder = os.path.dirname(server.backup_path(name))
    with open(server.backup_path(name), "rb") as f:
        content = f.read()
    with open(server.backup_path(name)[:-3] + ".json") as f:
        facts = json.load(f)
    when = datetime.datetime.strptime(name, "app_%Y%m%d_%H%M%S.db")
    for i in range(1, n):
        then = when - datetime.timedelta(seconds=60 * i)
        stem = then.strftime("app_%Y%m%d_%H%M%S")
        facts["filename"] = stem + ".db"
        facts["created_at"] = then.strftime("%Y-%m-%dT%H:%M:%S.000000")
        with open(os.path.join(folder, stem + ".json"), "w") as f:
            json.dump(facts, f)
        with open(os.path.join(folder, stem + ".db"), "wb") as f:
            f.write(content)


def small_database(path):
    db = data.connect(path)
    db.execute("VACUUM")  # a database of one page
    db.close()


def first_answer(server):
    """Milliseconds from creating the process to the whole list."""
    ask = f"GET {procs.BACKUP} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    began = time.monotonic()
    server.spawn()
    while True:
        s = socket.socket()
        try:
            s.connect(("127.0.0.1", server.port))
            s.sendall(ask.encode())
            answer = b""
            while more := s.recv(1 << 20):
                answer += more
            break
        except ConnectionRefusedError:
            server.alive()
            time.sleep(0.0002)
        finally:
            s.close()
    took = time.monotonic() - began
    if not answer.startswith(b"HTTP/1.1 200") or answer.count(b"app_") != MANY:
        raise procs.Failed("the first answer is not the whole list")
    return 1000 * took


def measure_starts(bench, server):
    took = Series(f"start to the list of {MANY:,} backups", "ms", [])
    peak = Series("memory of the server after that", "MiB", [])
    for _ in range(STARTS):
        took.values.append(first_answer(server))
        peak.values.append(server.peak())
        server.stop()
    bench.say(f"start: {took.text()}, {peak.text()}")
    return [took, peak]


def take_turns(bench, what, unit, ours, theirs):
    """Both series of one comparison."""
    a = Series(f"{what}, Holdfast", unit, [])
    b = Series(f"{what}, nginx", unit, [])
    for _ in range(bench.runs):
        a.values.append(ours())
        b.values.append(theirs())
    bench.say(f"{what}: {a.text()}, nginx {b.text()}")
    return a, b


def measure_requests(bench, nginx, server, path, what):
    body = body_of(server.port, path)
    with open(os.path.join(nginx.www, "answer"), "wb") as f:
        f.write(body)
    a, b = take_turns(
        bench,
        what,
        "/s",
        lambda: requests(server.port, path),
        lambda: requests(nginx.port, "/answer"),
    )
    return what, len(body), a, b, 0.5


def measure_download(bench, nginx, server, name):
    file = server.backup_path(name)
    os.link(file, os.path.join(nginx.www, "backup.db"))
    data.warm(file)
    path = f"{procs.BACKUP}/{name}/download"
    a, b = take_turns(
        bench,
        "download",
        "MiB/s",
        lambda: download(server.port, path),
        lambda: download(nginx.port, "/backup.db"),
    )
    return "download", os.path.getsize(file), a, b, 0.9


def measure_one(bench, nginx):
    """With one backup, a big one."""
    with procs.Holdfast(bench.program, bench.folder("one")) as server:
        data.place(bench.base(), server.database())
        name = server.create()
        yield measure_download(bench, nginx, server, name)
        yield measure_requests(bench, nginx, server, procs.BACKUP, "list of 1 backup")
        yield measure_requests(bench, nginx, server, "/healthz", "/healthz")
    bench.remove("one")


def measure_keys(bench):
    """The same small list with a key and from a server that wants none."""
    what = "list of 1 backup, with a key"
    a = Series(f"{what}, Holdfast", "/s", [])
    b = Series("list of 1 backup, authentication off, Holdfast", "/s", [])
    servers = [
        procs.Holdfast(bench.program, bench.folder(f"auth-{auth}"), auth)
        for auth in ("off", "on")
    ]
    small_database(servers[0].database())
    with servers[0]:
        servers[0].create()
    shutil.copytree(servers[0].data, servers[1].data, dirs_exist_ok=True)
    key = servers[1].new_key().strip()
    with servers[0] as off, servers[1] as on:
        for _ in range(bench.runs):
            a.values.append(requests(on.port, procs.BACKUP, key))
            b.values.append(requests(off.port, procs.BACKUP))
    bench.say(f"{what}: {a.text()}, without authentication {b.text()}")
    for server in servers:
        bench.remove(os.path.basename(server.data))
    return Figure(what, a, Series("authentication off", b.unit, b.values), 0.8, True)


def measure_many(bench, nginx, starts):
    server = procs.Holdfast(bench.program, bench.folder("many"))
    small_database(server.database())
    with server:
        name = server.create()
    clone_backups(server, name, MANY)
    try:
        starts += measure_starts(bench, server)
        server.start()
        what = f"list of {MANY:,} backups"
        yield measure_requests(bench, nginx, server, procs.BACKUP, what)
    finally:
        server.stop()
    bench.remove("many")


def measure(bench):
    starts = []
    with procs.Nginx(bench.folder("nginx")) as nginx:
        found = list(measure_one(bench, nginx))
        found += measure_many(bench, nginx, starts)
    bench.remove("nginx")
    rows, figures, series = [], [], starts
    for what, size, a, b, bound in found:
        ratio = f"{a.median / b.median:.2f}"
        rows.append([what, f"{size:,}", a.text(), b.text(), ratio])
        other = Series("nginx", b.unit, b.values)
        figures.append(Figure(what, a, other, bound, at_least=True))
        series = series + [a, b]
    rows += [[s.name, "", s.text(), "", ""] for s in starts]
    with_key = measure_keys(bench)
    figures.append(with_key)
    series.append(with_key.ours)
    figures.append(Figure(starts[0].name, starts[0], None, 50))
    head = ["answer", "bytes", "Holdfast", "nginx", "Holdfast ÷ nginx"]
    return Part("Serving", TEXT.strip(), head, rows, figures, series)
