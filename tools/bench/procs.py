"""The processes that are measured: a Holdfast server, nginx, the application;
and what they cost.  All end with this process, however it ends."""

import ctypes
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BACKUP = "/api/v1/backup"
PATIENCE_S = 300
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """The bench cannot go on; the text says why."""


def end_with_parent():
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def start(argv, **options):
    return subprocess.Popen(argv, preexec_fn=end_with_parent, **options)


def run_timed(argv):
    """Run a command; (wall seconds, CPU seconds with its children's)."""
    began = time.monotonic()
    child = start(argv, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise Failed(f"{argv[0]} failed: exit status {child.returncode}")
    return wall, used.ru_utime + used.ru_stime


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, what, pause_s=0.005):
    end = time.monotonic() + PATIENCE_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Failed(f"waited in vain for {what}")
        time.sleep(pause_s)


def answers(port, path):
    """Whether a GET of path is answered with 200."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        c.request("GET", path)
        r = c.getresponse()
        r.read()
        return r.status == 200
    except OSError:
        return False
    finally:
        c.close()


def children_of(pid):
    """Child processes, whichever thread started them."""
    found = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as f:
                found += [int(x) for x in f.read().split()]
    except OSError:
        pass  # gone meanwhile
    return found


def tree_of(pid):
    return [pid] + [x for child in children_of(pid) for x in tree_of(child)]


def cpu_of(pid):
    """CPU seconds of a process and of its ended, waited-for children."""
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return sum(int(x) for x in fields[11:15]) * TICK_S


def memory_of(pid, key):
    """A line of /proc/PID/status in MiB; 0 when the process is gone."""
    try:
        with open(f"/proc/{pid}/status") as f:
            for line in f:
                if line.startswith(key + ":"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


class TreeMemory:
    """The peak of the resident memory of a process and all below it, looked
    at every few milliseconds while the `with` block runs."""

    PERIOD_S = 0.005

    def __init__(self, pid):
        self.pid = pid
        self.peak = 0.0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.ended.wait(self.PERIOD_S):
            now = sum(memory_of(p, "VmRSS") for p in tree_of(self.pid))
            self.peak = max(self.peak, now)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


class Holdfast:
    """A server over the data directory `data`."""

    def __init__(self, program, data, auth="off"):
        self.program = program
        self.data = data
        self.auth = auth
        self.port = free_port()
        self.process = None

    def database(self):
        folder = os.path.join(self.data, "databases", "default")
        os.makedirs(folder, exist_ok=True)
        return os.path.join(folder, "app.db")

    def backup_path(self, filename):
        return os.path.join(self.data, "backups", "default", filename)

    def spawn(self):
        with open(self.data + ".log", "ab") as log:
            self.process = start(
                [self.program, "serve", "--auth", self.auth, "--data", self.data]
                + ["--listen", f"127.0.0.1:{self.port}"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def start(self):
        self.spawn()
        wait_for(lambda: self.alive() and answers(self.port, "/readyz"), "the server")
        return self

    def alive(self):
        if self.process.poll() is not None:
            raise Failed(f"the server ended; its log is {self.data}.log")
        return True

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def new_key(self):
        """A key that lets everything but administration."""
        argv = [self.program, "key", "create", "bench", "-q", "--data", self.data]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout

    def ask(self, method, path):
        """The headers and the JSON of a 200."""
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            c.request(method, path)
            r = c.getresponse()
            body = r.read()
        finally:
            c.close()
        if r.status != 200:
            raise Failed(f"{method} {path}: {r.status} {body[:300]!r}")
        return r.headers, json.loads(body)

    def create(self):
        return self.ask("POST", BACKUP)[1]["filename"]

    def restore(self, filename):
        """Returns the name of the safety backup."""
        headers, _ = self.ask("POST", f"{BACKUP}/{filename}/restore")
        return headers["Holdfast-Safety-Backup"]

    def delete(self, filename):
        self.ask("DELETE", f"{BACKUP}/{filename}")

    def cpu(self):
        """CPU seconds of the server, its helper and the helper's children."""
        (helper,) = children_of(self.process.pid)
        wait_for(lambda: not children_of(helper), "the end of a check", 0.001)
        return cpu_of(self.process.pid) + cpu_of(helper)

    def reset_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w") as f:
            f.write("5")

    def peak(self):
        return memory_of(self.process.pid, "VmHWM")

    def resident(self):
        return memory_of(self.process.pid, "VmRSS")

    def locked_ms(self):
        """How long the last restore held the write lock, by the log."""
        with open(self.data + ".log") as f:
            lines = [x for x in f if "backup.restored" in x]
        words = lines[-1].replace('"', "").replace(":", "=").replace(",", " ")
        for word in words.split():
            if word.startswith("locked_ms="):
                return int(word.partition("=")[2])
        raise Failed("the log line of a restore has no locked_ms")


NGINX_CONF = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    default_type application/json;
    client_body_temp_path {folder}/t1;
    proxy_temp_path {folder}/t2;
    fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4;
    scgi_temp_path {folder}/t5;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/www;
    }}
}}
"""


class Nginx:
    """nginx serving the files of FOLDER/www."""

    def __init__(self, folder):
        self.folder = folder
        self.www = os.path.join(folder, "www")
        self.port = free_port()
        self.process = None
        os.makedirs(self.www)

    def __enter__(self):
        conf = os.path.join(self.folder, "nginx.conf")
        user = "user root;" if os.geteuid() == 0 else ""
        with open(conf, "w") as f:
            f.write(user + NGINX_CONF.format(folder=self.folder, port=self.port))
        with open(os.path.join(self.www, "ready"), "w") as f:
            f.write("yes")
        self.process = start(
            ["nginx", "-c", conf, "-p", self.folder, "-e", self.folder + "/error.log"]
        )
        wait_for(lambda: self.alive() and answers(self.port, "/ready"), "nginx")
        return self

    def alive(self):
        if self.process.poll() is not None:
            raise Failed(f"nginx ended; see {self.folder}/error.log")
        return True

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


class Application:
    """One process of the application; see app.py."""

    def __init__(self, kind, path, seed):
        self.process = start(
            [sys.executable, os.path.join(HERE, "app.py"), kind, path, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self.process.stdout.readline() != "ready\n":
            raise Failed("the application did not start")

    def end(self):
        """[(start, seconds), …] and how many of them failed."""
        out, _ = self.process.communicate()
        if self.process.returncode != 0:
            raise Failed("the application ended badly")
        result = json.loads(out)
        return result["ops"], result["failed"]

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
