"""A Holdfast server under test, and the requests that are sent to it.

Every response that passes through here is held to what all responses promise:
a request id, the error body of the contract, and no path or SQL of the server
in it.  What was asked and answered is kept in SEEN for the comparison with the
OpenAPI document.
"""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("HOLDFAST_BIN", REPO / "build/test/holdfast"))
RELEASE_BIN = Path(os.environ.get("HOLDFAST_RELEASE_BIN", REPO / "build/holdfast"))
DEADLINE_S = float(os.environ.get("HOLDFAST_DEADLINE_S", "90"))

API = "/api/v1"
BACKUP = API + "/backup"
DATABASES = API + "/databases"

ERROR_CODES = {
    400: {"BAD_REQUEST"},
    401: {"AUTH_REQUIRED", "INVALID_CREDENTIALS"},
    403: {"FORBIDDEN"},
    404: {"NOT_FOUND"},
    405: {"METHOD_NOT_ALLOWED"},
    409: {"CONFLICT"},
    413: {"PAYLOAD_TOO_LARGE"},
    414: {"URI_TOO_LONG"},
    415: {"UNSUPPORTED_MEDIA_TYPE"},
    416: {"RANGE_NOT_SATISFIABLE"},
    422: {"VALIDATION_FAILED", "OPERATION_FAILED"},
    429: {"TOO_MANY_REQUESTS"},
    431: {"HEADERS_TOO_LARGE"},
    500: {"INTERNAL_ERROR"},
    503: {"BUSY"},
    507: {"INSUFFICIENT_STORAGE"},
}
RETRY_AFTER = {429, 503}
LEAKS = re.compile(
    rb"/(tmp|home|root|var|proc|dev|usr|work)/|sqlite3_|\bSELECT\b|\bPRAGMA\b"
    rb"|\bINSERT\b|src/[a-z]+/|\.c:[0-9]"
)
SANITIZER = re.compile(
    rb"ERROR: (Address|Leak|Thread)Sanitizer|WARNING: ThreadSanitizer|runtime error:"
)

SEEN = {}  # (method, path without query, status): a response


def wait_for(condition, what, deadline_s=None):
    """Return the first true value of condition(), looking again and again."""
    end = time.monotonic() + (deadline_s or DEADLINE_S)
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.002)


def unique_keys(pairs):
    """An object_pairs_hook that keeps the order and refuses doubled keys."""
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), f"doubled key in {keys}"
    return dict(pairs)


class Response:
    """One answer: status, headers in order, body."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def header(self, name):
        """The value of a header that may appear at most once, or None."""
        found = [v for k, v in self.headers if k.lower() == name.lower()]
        assert len(found) <= 1, f"{name} appears {len(found)} times"
        return found[0] if found else None

    def json(self):
        assert self.header("Content-Type").split(";")[0] == "application/json"
        return json.loads(self.body, object_pairs_hook=unique_keys)

    @property
    def error(self):
        return self.json()["error"]

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:400]!r}>"


def check_error_body(response):
    """The one shape of all errors (contract, part 2)."""
    body = response.json()
    assert list(body) in (["error", "message"], ["error", "message", "details"]), body
    assert body["error"] in ERROR_CODES[response.status], response
    assert isinstance(body["message"], str) and body["message"], body
    assert isinstance(body.get("details", {}), dict), body
    assert not LEAKS.search(response.body), f"path or SQL in {response}"
    if response.status in RETRY_AFTER:
        assert int(response.header("Retry-After")) >= 1, response
    if response.status == 503:
        assert body["details"]["reason"], response
    if response.status == 404:
        assert body["details"]["resource_type"], response
        assert isinstance(body["details"]["identifier"], str), response
    if response.status == 405:
        assert response.header("Allow"), response
    if response.status == 500:
        assert response.header("X-Request-Id") in body["details"].values(), response


def check_response(method, path, response):
    """What every response promises."""
    assert re.fullmatch(r"[0-9a-f]{16}", response.header("X-Request-Id")), response
    assert response.header("X-Content-Type-Options") == "nosniff", response
    if response.status >= 400 and method != "HEAD":
        check_error_body(response)
    SEEN[method, path.split("?")[0], response.status] = response


def parse_head(head):
    """Status and headers of the bytes before the empty line."""
    lines = head.decode("latin-1").split("\r\n")
    headers = []
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers.append((name, value.strip()))
    return int(lines[0].split(" ")[1]), headers


def read_response(sock, method="GET"):
    """Read one response from a socket; None if the peer sent none whole."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    status, headers = parse_head(head)
    response = Response(status, headers, body)
    length = int(response.header("Content-Length") or 0)
    if method == "HEAD" or status in (204, 304):
        length = 0
    while len(response.body) < length:
        more = sock.recv(1 << 20)
        if not more:
            return None
        response.body += more
    return response


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Server:
    """One server process over one data directory, started and stopped at will.

    Files of the test build's doors lie beside the data directory: `clock`
    (offset in seconds), `phase` (where it is), `fault` (what is to fail).
    """

    def __init__(self, base, args=(), env=None, binary=BIN, wrapper=(), **popen):
        self.base = Path(base)
        self.data = self.base / "data"
        self.clock = self.base / "clock"
        self.phase_file = self.base / "phase"
        self.fault_file = self.base / "fault"
        self.log_path = self.base / "server.log"
        self.args = list(args)
        self.env = dict(env or {})
        self.binary = binary
        self.wrapper = list(wrapper)
        self.popen = popen
        self.process = None
        self.port = None
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)

    # ---- the process ----

    def environment(self, extra):
        env = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_")}
        env["HOLDFAST_TEST_CLOCK"] = str(self.clock)
        env["HOLDFAST_TEST_PHASE"] = str(self.phase_file)
        env["HOLDFAST_TEST_FAULT_FILE"] = str(self.fault_file)
        env.update(self.env)
        env.update(extra or {})
        return env

    def command(self):
        return [
            *self.wrapper,
            str(self.binary),
            "serve",
            "--data",
            str(self.data),
            "--listen",
            f"127.0.0.1:{self.port}",
            "--auth",
            "off",
            *self.args,
        ]

    def spawn(self, env=None):
        """Start the process without waiting for it."""
        assert Path(self.binary).exists(), f"{self.binary} is not built"
        assert self.process is None
        self.port = free_port()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=self.environment(env),
                start_new_session=True,
                **self.popen,
            )

    def start(self, env=None):
        """Start and wait until it is ready.  Returns the server."""
        self.spawn(env)
        wait_for(self.is_ready, "the server's start")
        return self

    def is_ready(self):
        assert self.process.poll() is None, f"ended at start:\n{self.log()[-3000:]}"
        try:
            return self.get("/readyz").status == 200
        except (ConnectionError, OSError, http.client.HTTPException):
            return False

    def stop(self):
        """SIGTERM: it must end by itself, with status 0."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        self.join(0)

    def join(self, status):
        """Wait for the end and compare the exit status."""
        process, self.process = self.process, None
        got = process.wait(timeout=DEADLINE_S)
        self.end_group(process.pid)
        self.check_log()
        assert got == status, f"exit status {got}:\n{self.log()[-3000:]}"

    def kill(self):
        """SIGKILL, and wait until its helpers have ended with it."""
        helpers = self.children()
        self.process.kill()
        self.wait_killed(helpers)

    def wait_killed(self, helpers=()):
        self.join(-signal.SIGKILL)
        for pid in helpers:
            wait_for(lambda p=pid: not alive(p), "the end of the server's helper")

    def abandon(self):
        """End it in whatever way: for the cleanup of a failed test."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.end_group(self.process.pid)
            self.process = None

    @staticmethod
    def end_group(pid):
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def children(self):
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(pid) for pid in Path(path).read_text().split()]

    def descriptors(self):
        """What the process has open, as a sorted list of link targets."""
        folder = f"/proc/{self.process.pid}/fd"
        found = []
        for name in os.listdir(folder):
            try:
                found.append(os.readlink(f"{folder}/{name}"))
            except FileNotFoundError:
                pass
        return sorted(found)

    def log(self):
        return (
            self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        )

    def check_log(self):
        found = SANITIZER.search(self.log_path.read_bytes())
        assert not found, self.log()[-20000:]

    # ---- the doors of the test build ----

    def set_clock(self, offset_s):
        replace_text(self.clock, f"{offset_s}\n")

    def clock_offset(self):
        return int(self.clock.read_text()) if self.clock.exists() else 0

    def phase(self):
        try:
            return self.phase_file.read_text().strip()
        except FileNotFoundError:
            return ""

    def set_fault(self, text):
        replace_text(self.fault_file, text)

    # ---- requests ----

    def request(self, method, path, body=None, headers=None, timeout=None):
        conn = http.client.HTTPConnection(
            "127.0.0.1", self.port, timeout=timeout or DEADLINE_S
        )
        try:
            conn.request(method, path, body=body, headers=headers or {})
            answer = conn.getresponse()
            response = Response(answer.status, answer.getheaders(), answer.read())
        finally:
            conn.close()
        check_response(method, path, response)
        return response

    def get(self, path, **headers):
        return self.request("GET", path, headers=dashed(headers))

    def head(self, path, **headers):
        return self.request("HEAD", path, headers=dashed(headers))

    def post(self, path, document=None, **headers):
        return self.send_json("POST", path, document, headers)

    def patch(self, path, document=None, **headers):
        return self.send_json("PATCH", path, document, headers)

    def delete(self, path, **headers):
        return self.request("DELETE", path, headers=dashed(headers))

    def send_json(self, method, path, document, headers):
        headers = dashed(headers)
        body = None
        if document is not None:
            body = json.dumps(document)
            headers.setdefault("Content-Type", "application/json")
        return self.request(method, path, body=body, headers=headers)

    def connect(self):
        sock = socket.create_connection(("127.0.0.1", self.port), DEADLINE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def raw(self, data, method="GET"):
        """Send bytes as they are; the response, or None if there was none."""
        with self.connect() as sock:
            try:
                sock.sendall(data)
                return read_response(sock, method)
            except (ConnectionResetError, BrokenPipeError):
                return None

    # ---- the five calls, where they are means and not the test ----

    def create(self, database=None):
        response = self.post(BACKUP + query(database))
        assert response.status == 200, response
        return response.json()

    def backups(self, database=None):
        response = self.get(BACKUP + query(database))
        assert response.status == 200, response
        return [entry["filename"] for entry in response.json()["backups"]]

    def restore(self, filename, database=None, force=False):
        """Restore; returns the filename of the safety backup (or None)."""
        extra = {"force": "true"} if force else {}
        path = f"{BACKUP}/{filename}/restore{query(database, **extra)}"
        response = self.post(path)
        assert response.status == 200, response
        return response.header("Holdfast-Safety-Backup")

    def download(self, filename, database=None):
        response = self.get(f"{BACKUP}/{filename}/download{query(database)}")
        assert response.status == 200, response
        return response.body

    def remove(self, filename, database=None):
        response = self.delete(f"{BACKUP}/{filename}{query(database)}")
        assert response.status == 200, response

    def details(self, filename, database=None):
        response = self.get(f"{BACKUP}/{filename}{query(database)}")
        assert response.status == 200, response
        return response.json()

    # ---- the data directory ----

    def live(self, database="default"):
        return self.data / "databases" / database / "app.db"

    def folder(self, database="default"):
        return self.data / "backups" / database

    def backup_path(self, filename, database="default"):
        return self.folder(database) / filename

    def prepare(self, source, database="default"):
        """Put a database file where the server looks for that name."""
        target = self.live(database)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.move(source, target)
        return target


def alive(pid):
    """Whether the process runs (a zombie does not)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def replace_text(path, text):
    """Write a small file in one step, as its reader may look at any time."""
    fresh = Path(f"{path}.test")
    fresh.write_text(text)
    fresh.rename(path)


def dashed(headers):
    """Keyword arguments as header names: if_none_match is If-None-Match."""
    return {k.replace("_", "-").title(): v for k, v in headers.items()}


def query(database=None, **more):
    parts = dict(more)
    if database is not None:
        parts["database"] = database
    return "?" + "&".join(f"{k}={v}" for k, v in parts.items()) if parts else ""
