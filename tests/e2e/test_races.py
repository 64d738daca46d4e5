"""Calls that meet: downloads, deletes, restores and creates of one database.

A download that has begun ends whole although its backup is deleted; a delete
waits for a restore from it; whatever order calls come in, each answer is one
of the contract and what is listed is good.
"""

import collections
import hashlib
import random
import threading

import pytest

import dbfile
from server import BACKUP, parse_head, wait_for

ROUNDS = 60


def begin_download(server, name):
    """Ask for a backup and read only the head; the rest stays in flight."""
    sock = server.connect()
    request = f"GET {BACKUP}/{name}/download HTTP/1.1\r\nHost: localhost\r\n"
    sock.sendall((request + "Connection: close\r\n\r\n").encode())
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(1024)
    head, _, body = data.partition(b"\r\n\r\n")
    return sock, dict(parse_head(head)[1]), body


def finish_download(sock, headers, body):
    while more := sock.recv(1 << 20):
        body += more
    sock.close()
    assert len(body) == int(headers["Content-Length"])
    return hashlib.sha256(body).hexdigest()


def test_running_download_of_a_deleted_backup_ends_whole(servers, base):
    server = servers()
    server.prepare(dbfile.make(base / "x.db", rows=60000))
    server.start()
    name = server.create()["filename"]
    digest = server.details(name)["sha256"]
    downloads = [begin_download(server, name) for _ in range(5)]
    server.remove(name)
    assert server.get(f"{BACKUP}/{name}/download").status == 404
    assert not server.backup_path(name).exists()
    for download in downloads:
        assert finish_download(*download) == digest
    wait_for(
        lambda: not [p for p in server.descriptors() if name in p],
        "the deleted file to be closed",
    )


def test_stalled_download_holds_nothing_up(server):
    name = server.create()["filename"]
    sock, headers, body = begin_download(server, name)
    assert server.restore(name)
    assert server.create()
    dbfile.execute(server.live(), "INSERT INTO item(text) VALUES('x')")
    server.remove(name)
    finish_download(sock, headers, body)


def test_delete_waits_for_a_restore_from_it(servers, shells, base):
    server = servers()
    live = server.prepare(dbfile.make(base / "x.db", journal="delete"))
    server.start()
    name = server.create()["filename"]
    application = shells(live)
    application.sql("BEGIN IMMEDIATE")
    statuses = {}

    def send(what, method, path):
        statuses[what] = server.request(method, path).status

    restore = threading.Thread(
        target=send, args=("restore", "POST", f"{BACKUP}/{name}/restore")
    )
    delete = threading.Thread(
        target=send, args=("delete", "DELETE", f"{BACKUP}/{name}")
    )
    restore.start()
    wait_for(lambda: server.phase() == "restore.copy", "the restore to begin")
    delete.start()
    wait_for(lambda: "api.delete" in server.phase() or statuses, "the delete to begin")
    assert server.backup_path(name).exists()
    application.sql("COMMIT")
    restore.join()
    delete.join()
    assert statuses == {"restore": 200, "delete": 200}
    assert name not in server.backups()


ALLOWED = {
    "create": {200},
    "restore": {200, 404, 409},
    "delete": {200, 404, 409},
    "download": {200, 404},
    "verify": {200, 404, 409},
    "details": {200, 404},
}


def call(server, kind, name):
    path = f"{BACKUP}/{name}"
    if kind == "create":
        return server.post(BACKUP)
    if kind == "delete":
        return server.delete(path)
    if kind in ("restore", "verify"):
        return server.post(f"{path}/{kind}")
    return server.get(path + ("/download" if kind == "download" else ""))


def run_races(server, seed, report, rounds):
    """Rounds of calls at the same time, most of them on the same backup."""
    rng = random.Random(seed)
    counts = collections.Counter()
    wrong = []

    def send(kind, name):
        response = call(server, kind, name)
        counts[kind, response.status] += 1
        if response.status not in ALLOWED[kind]:
            wrong.append((kind, response))
        if kind == "download" and response.status == 200:
            tag = response.header("ETag").strip('"')
            if hashlib.sha256(response.body).hexdigest() != tag:
                wrong.append((kind, tag))

    for _ in range(rounds):
        names = server.backups() or [server.create()["filename"]]
        name = rng.choice(names)
        kinds = rng.choices(list(ALLOWED), k=6)
        threads = [threading.Thread(target=send, args=(kind, name)) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    report(f"Races: {sum(counts.values())} calls in {rounds} rounds")
    assert wrong == []
    assert dbfile.integrity(server.live()) == "ok"
    for name in server.backups():
        path = server.backup_path(name)
        dbfile.assert_backup_ok(path)
        assert server.details(name)["sha256"] == dbfile.file_digest(path)


def test_races_on_one_database(server, seed, report):
    run_races(server, seed, report, ROUNDS)


@pytest.mark.soak
def test_a_thousand_races_on_one_database(server, seed, report):
    run_races(server, seed, report, 1000)
