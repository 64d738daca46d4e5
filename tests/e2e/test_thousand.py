"""A thousand simultaneous POSTs cost a handful of copies.

Each is sent right after a row of its own was committed, while the others
arrive.  All are answered with 200, by at most ten copies, and the copy that
answers a request holds its row.
"""

import json
import selectors
import socket

import pytest

import dbfile
from server import BACKUP, DEADLINE_S, Response, check_response, parse_head

REQUESTS = 1000
COPIES = 10
HEAD = f"POST {BACKUP} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Client:
    """One request: all but its last byte is sent before the row is committed."""

    def __init__(self, port, number):
        self.number = number
        self.data = b""
        self.sock = socket.create_connection(("127.0.0.1", port), DEADLINE_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(HEAD[:-1].encode())

    def fire(self):
        self.sock.sendall(HEAD[-1:].encode())
        self.sock.setblocking(False)

    def receive(self):
        """Take what has come; True at the end."""
        more = self.sock.recv(65536)
        self.data += more
        return not more

    def response(self):
        self.sock.close()
        head, _, body = self.data.partition(b"\r\n\r\n")
        response = Response(*parse_head(head), body)
        check_response("POST", BACKUP, response)
        return response


def collect(clients):
    """Wait for all answers at once."""
    selector = selectors.DefaultSelector()
    for client in clients:
        selector.register(client.sock, selectors.EVENT_READ, client)
    left = len(clients)
    while left:
        ready = selector.select(DEADLINE_S)
        assert ready, f"{left} requests without an answer"
        for key, _ in ready:
            if key.data.receive():
                selector.unregister(key.fileobj)
                left -= 1
    selector.close()


def markers(path):
    return {row[0] for row in dbfile.query(path, "SELECT number FROM marker", True)}


@pytest.mark.parametrize("mode", dbfile.JOURNAL_MODES)
def test_thousand_posts_cost_a_handful_of_copies(servers, base, report, mode):
    server = servers()
    sql = """
        CREATE TABLE marker(number INTEGER PRIMARY KEY);
        CREATE TABLE filler(data);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<5000)
        INSERT INTO filler SELECT randomblob(4000) FROM n;
    """
    live = server.prepare(dbfile.make(base / "x.db", journal=mode, sql=sql))
    server.start()
    clients = [Client(server.port, i) for i in range(REQUESTS)]
    with dbfile.opened(live, timeout=60) as db:
        db.execute("PRAGMA synchronous=OFF")
        for client in clients:
            db.execute("INSERT INTO marker VALUES(?)", (client.number,))
            client.fire()
    collect(clients)
    answers = [client.response() for client in clients]
    assert {response.status for response in answers} == {200}
    held = {}
    for client, response in zip(clients, answers):
        name = json.loads(response.body)["filename"]
        held.setdefault(name, markers(server.backup_path(name)))
        assert client.number in held[name]
    report(f"Thousand, {mode}: {REQUESTS} POSTs, all 200, {len(held)} copies")
    assert len(held) <= COPIES
    assert set(server.backups()) == set(held)
    for name in held:
        dbfile.assert_backup_ok(server.backup_path(name))
