"""The command line: the same words, against a server or on a data directory."""

import hashlib
import json
import os
import re
import shlex
import subprocess

import pytest

import dbfile
from server import BIN, DEADLINE_S, unique_keys

WAYS = ("server", "data")
ABSENT = "app_20260413_142530.db"
EXIT = {"usage": 2, "not found": 3, "conflict": 4, "damaged": 5, "busy": 6}
EXIT |= {"unreachable": 9}


class Command:
    """holdfast as a person calls it, one of the two ways."""

    def __init__(self, server, way, folder):
        self.server = server
        self.way = way
        self.folder = folder

    def target(self):
        if self.way == "data":
            return ["--data", str(self.server.data)]
        return ["--server", f"http://127.0.0.1:{self.server.port}"]

    def run(self, *words, status=0, target=None):
        """Run it; returns what it printed on stdout."""
        done = subprocess.run(
            [BIN, words[0], *(self.target() if target is None else target), *words[1:]],
            cwd=self.folder,
            env=self.server.environment({}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        )
        assert done.returncode == status, (words, done)
        assert "Sanitizer" not in done.stderr, done.stderr
        self.errors = done.stderr
        return done.stdout

    def json(self, *words, status=0):
        out = self.run(*words, "--json", status=status)
        return json.loads(out, object_pairs_hook=unique_keys)


@pytest.fixture(params=WAYS)
def command(request, servers, base):
    """A command with one database; the server runs only where it is asked."""
    server = servers()
    server.prepare(dbfile.make(base / "x.db"))
    folder = base / "here"
    folder.mkdir()
    if request.param == "server":
        server.start()
    return Command(server, request.param, folder)


def test_backup_prints_the_name(command):
    name = command.run("backup", "-q").strip()
    dbfile.assert_backup_ok(command.server.backup_path(name))
    assert name in command.run("list")
    assert command.run("list", "-q").split() == [name]
    assert re.match(r"app_\d{8}_\d{6}\.db: \d+ bytes", command.run("backup"))


def test_json_is_the_apis(command):
    created = command.json("backup")
    assert list(created) == ["database", "filename", "size", "created_at"]
    listed = command.json("list")
    del created["database"]
    assert listed == {"backups": [created]}
    name = created["filename"]
    rich = command.json("list", "-l")["backups"]
    assert [entry["filename"] for entry in rich] == [name]
    verified = command.json("verify", name)
    assert verified["proof"]["checked"] == "integrity_check"
    restored = command.json("restore", "-y", name)
    assert restored == {"database": "default", "restored_from": name}
    assert command.json("delete", name) == {"status": "deleted"}


def test_restore_prints_the_command_that_undoes_it(command):
    live = command.server.live()
    name = command.run("backup", "-q").strip()
    dbfile.execute(live, "DELETE FROM item")
    emptied = dbfile.content_digest(live)
    out = command.run("restore", "--yes", name)
    assert dbfile.query(live, "SELECT count(*) FROM item") == [(200,)]
    undo = re.search(r"^to undo it: (.*)$", out, re.M).group(1)
    words = shlex.split(undo)
    assert words[:2] == ["holdfast", "restore"]
    command.run(*words[1:], "--yes", target=[])
    assert dbfile.content_digest(live) == emptied


def test_nobody_is_asked_without_a_terminal(command):
    name = command.run("backup", "-q").strip()
    command.run("restore", name)


def test_download_compares_length_and_digest(command):
    name = command.run("backup", "-q").strip()
    content = command.server.backup_path(name).read_bytes()
    command.run("download", name)
    target = command.folder / name
    assert target.read_bytes() == content
    command.run("download", name, status=EXIT["conflict"])
    command.run("download", name, "--force")
    body = command.json("download", name, "-o", "copy.db")
    assert body["sha256"] == hashlib.sha256(content).hexdigest()
    assert sorted(os.listdir(command.folder)) == sorted([name, "copy.db"])


def test_download_of_a_changed_backup_keeps_nothing(command):
    name = command.run("backup", "-q").strip()
    dbfile.flip(command.server.backup_path(name), 5000)
    command.run("download", name, status=EXIT["damaged"])
    assert os.listdir(command.folder) == []
    command.run("verify", name, status=EXIT["damaged"])
    assert command.run("list", "-q").split() == []


def test_exit_statuses(command):
    command.run("backup", "-q")
    for words, status in [
        (["restore", "-y", ABSENT], "not found"),
        (["download", ABSENT], "not found"),
        (["delete", ABSENT], "not found"),
        (["verify", ABSENT], "not found"),
        (["restore", "-y", "x.db"], "usage"),
        (["delete", "../x.db"], "usage"),
        (["list", "--database", "nowhere"], "not found"),
        (["list", "--database", "no name"], "usage"),
        (["list", "--nonsense"], "usage"),
        (["restore"], "usage"),
        (["databases", "add", "default"], "conflict"),
        (["databases", "nonsense"], "usage"),
    ]:
        command.run(*words, status=EXIT[status])
        assert command.errors, words


def test_json_errors_are_the_apis(command):
    """With their details, whichever way it works."""
    answer = command.json("delete", ABSENT, status=EXIT["not found"])
    assert list(answer) == ["error", "message", "details"]
    assert answer["error"] == "NOT_FOUND"
    assert answer["details"] == {"resource_type": "backup", "identifier": ABSENT}
    answer = command.json("databases", "add", "default", status=EXIT["conflict"])
    assert (answer["error"], answer["details"]) == ("CONFLICT", {"reason": "exists"})
    answer = command.json("list", "--database", "nowhere", status=EXIT["not found"])
    wanted = {"resource_type": "database", "identifier": "nowhere"}
    assert answer["details"] == wanted


@pytest.mark.parametrize("words", [["backup"], ["verify"], ["restore", "-y"]])
def test_progress_is_shown_on_a_terminal(servers, base, words):
    server = servers()
    server.prepare(dbfile.make(base / "x.db", rows=2000))
    command = Command(server, "data", base)
    name = command.run("backup", "-q").strip()
    end, terminal = os.openpty()
    words = words + ([] if words == ["backup"] else [name])
    done = subprocess.run(
        [BIN, *words, "--data", str(server.data)],
        env=server.environment({"TERM": "xterm"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        timeout=DEADLINE_S,
    )
    os.close(terminal)
    shown = os.read(end, 1 << 16).decode()
    os.close(end)
    assert done.returncode == 0, shown
    assert re.search(r"\[[#.]{30}\] +\d+ %", shown), shown
    assert shown.endswith("\r\x1b[K"), shown


def test_server_that_does_not_answer(command):
    target = ["--server", "http://127.0.0.1:1"]
    command.run("list", target=target, status=EXIT["unreachable"])
    assert "127.0.0.1" in command.errors


def test_databases(command):
    command.run("databases", "add", "second")
    assert command.run("databases", "list", "-q").split() == ["default", "second"]
    command.run("databases", "use", "second")
    assert command.run("databases", "current").strip() == "second"
    assert command.json("databases", "current")["current"] == "second"
    assert command.json("backup")["database"] == "second"
    command.run("databases", "remove", "-y", "second", status=EXIT["conflict"])
    command.run("databases", "use", "default")
    command.run("databases", "remove", "-y", "second")
    assert command.run("databases", "list", "-q").split() == ["default"]


def test_any_path_may_be_added_on_the_machine_itself(servers, base):
    server = servers()
    live = dbfile.make(base / "own" / "own.db", rows=5)
    command = Command(server, "data", base)
    command.run("databases", "add", "own", "own/own.db")
    name = command.run("backup", "-q", "--database", "own").strip()
    server.start()
    assert server.backups("own") == [name]
    server.restore(name, "own")
    assert dbfile.query(live, "SELECT count(*) FROM item") == [(5,)]


def test_lock_file_keeps_command_and_server_apart(servers, base):
    server = servers()
    server.prepare(dbfile.make(base / "x.db"))
    server.start()
    command = Command(server, "data", base)
    command.run("list", status=EXIT["conflict"])
    assert str(server.data) in command.errors
    server.stop()
    command.run("list")


def test_busy_database(servers, shells, base):
    server = servers(args=["--busy-timeout", "1"])
    live = server.prepare(dbfile.make(base / "x.db", journal="delete"))
    server.start()
    command = Command(server, "server", base)
    application = shells(live)
    application.sql("BEGIN EXCLUSIVE")
    command.run("backup", status=EXIT["busy"])


def test_server_and_data_from_the_environment(servers, base):
    server = servers()
    server.prepare(dbfile.make(base / "x.db"))
    command = Command(server, "data", base)
    server.env["HOLDFAST_DATA"] = str(server.data)
    name = command.run("backup", "-q", target=[]).strip()
    del server.env["HOLDFAST_DATA"]
    server.start()
    server.env["HOLDFAST_SERVER"] = f"http://127.0.0.1:{server.port}"
    assert command.run("list", "-q", target=[]).split() == [name]
    del server.env["HOLDFAST_SERVER"]


def test_help_has_the_table_of_exit_statuses(servers, base):
    command = Command(servers(), "data", base)
    out = subprocess.run([BIN, "--help"], capture_output=True, text=True, check=True)
    for word in ("serve", "backup", "list", "restore", "download", "delete", "verify"):
        assert re.search(rf"^ +{word} ", out.stdout, re.M), word
        text = command.run(word, "--help", target=[])
        assert "--data" in text, word
    for status in range(10):
        assert re.search(rf"^ +{status}  \w", out.stdout, re.M)
    for words in (["nonsense"], []):
        done = subprocess.run([BIN, *words], capture_output=True, text=True)
        assert done.returncode == EXIT["usage"] and "--help" in done.stderr


def test_killed_command_leaves_what_the_next_clears(servers, base):
    """A local command is killed in the middle: P2 holds for it too."""
    server = servers()
    server.prepare(dbfile.make(base / "x.db", rows=2000))
    command = Command(server, "data", base)
    first = command.run("backup", "-q").strip()
    for step, words in [
        ("create.copy", ["backup"]),
        ("create.publish", ["backup"]),
        ("restore.write", ["restore", "-y", first]),
        ("delete.sync", ["delete", first]),
    ]:
        server.env["HOLDFAST_TEST_KILL"] = f"{step}:1"
        command.run(*words, status=-9)
        del server.env["HOLDFAST_TEST_KILL"]
        for name in command.run("list", "-q").split():
            dbfile.assert_backup_ok(server.backup_path(name))
        assert os.listdir(server.data / "tmp") == []
        assert dbfile.integrity(server.live()) == "ok"
