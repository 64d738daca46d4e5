"""The contract's part 1 and 2, word by word: every example and curl line.

Bodies are compared key by key, in order, with the types of the contract;
nothing may be added to them.
"""

import email.utils
import hashlib
import json
import re
import subprocess
import time

import pytest

import dbfile
from server import API, BACKUP, DATABASES, LEAKS, read_response, unique_keys

NAME = re.compile(r"app_(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)\.db")
CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000000")
ABSENT = "app_20260413_142530.db"


def created_at_of(filename):
    """The second that a filename says, as the contract writes it."""
    year, month, day, hour, minute, second = NAME.fullmatch(filename).groups()
    return f"{year}-{month}-{day}T{hour}:{minute}:{second}.000000"


def assert_entry(entry, keys):
    """One backup as in BackupResponse or BackupSummaryResponse."""
    assert list(entry) == keys
    assert NAME.fullmatch(entry["filename"])
    assert type(entry["size"]) is int and entry["size"] > 0
    assert CREATED.fullmatch(entry["created_at"])
    assert entry["created_at"] == created_at_of(entry["filename"])


# ---- part 1: the five calls ----


def test_create_answers_with_database_filename_size_created_at(server):
    response = server.post(BACKUP)
    assert response.status == 200
    body = response.json()
    assert_entry(body, ["database", "filename", "size", "created_at"])
    assert body["database"] == "default"
    assert body["size"] == server.backup_path(body["filename"]).stat().st_size


def test_list_of_none_is_empty(server):
    assert server.get(BACKUP).json() == {"backups": []}


def test_list_answers_newest_first_with_filename_size_created_at(server):
    made = [server.create() for _ in range(4)]
    body = server.get(BACKUP).json()
    assert list(body) == ["backups"]
    for entry in body["backups"]:
        assert_entry(entry, ["filename", "size", "created_at"])
    for entry in made:
        del entry["database"]
    assert body["backups"] == made[::-1]


def test_restore_answers_with_database_and_restored_from(server):
    name = server.create()["filename"]
    old = dbfile.content_digest(server.live())
    dbfile.execute(server.live(), "DELETE FROM item WHERE id>5")
    changed = dbfile.content_digest(server.live())
    response = server.post(f"{BACKUP}/{name}/restore")
    assert response.status == 200
    body = response.json()
    assert list(body.items()) == [("database", "default"), ("restored_from", name)]
    assert dbfile.content_digest(server.live()) == old
    safety = response.header("Holdfast-Safety-Backup")
    assert NAME.fullmatch(safety) and server.backups() == [safety, name]
    assert dbfile.content_digest(server.backup_path(safety), True) == changed


def test_download_is_the_database_in_binary(server, base):
    entry = server.create()
    response = server.get(f"{BACKUP}/{entry['filename']}/download")
    assert response.status == 200
    assert response.header("Content-Type") == "application/x-sqlite3"
    assert len(response.body) == entry["size"]
    assert response.body == server.backup_path(entry["filename"]).read_bytes()
    copy = base / "copy.db"
    copy.write_bytes(response.body)
    copy.chmod(0o400)
    dbfile.assert_backup_ok(copy)
    assert dbfile.content_digest(copy, True) == dbfile.content_digest(server.live())


def test_delete_answers_status_deleted(server):
    keep, name = (server.create()["filename"] for _ in range(2))
    response = server.delete(f"{BACKUP}/{name}")
    assert response.status == 200
    assert list(response.json().items()) == [("status", "deleted")]
    assert server.backups() == [keep]
    assert not server.backup_path(name).exists()
    assert server.delete(f"{BACKUP}/{name}").status == 404


def test_bodies_are_json_with_a_length(server):
    server.create()
    for path in (BACKUP, DATABASES, "/healthz", "/readyz", API + "/openapi.json"):
        response = server.get(path)
        assert response.status == 200, path
        assert response.header("Content-Type").split(";")[0] == "application/json"
        assert int(response.header("Content-Length")) == len(response.body)
        json.loads(response.body, object_pairs_hook=unique_keys)


# ---- the command lines, as they stand but for port and filename ----

CURL_CREATE = "curl -s -X POST http://localhost:8080/api/v1/backup"
CURL_LIST = "curl -s http://localhost:8080/api/v1/backup"
CURL_RESTORE = f"curl -s -X POST http://localhost:8080/api/v1/backup/{ABSENT}/restore"
CURL_DOWNLOAD = (
    f"curl -s http://localhost:8080/api/v1/backup/{ABSENT}/download -o backup.db"
)
CURL_DELETE = f"curl -s -X DELETE http://localhost:8080/api/v1/backup/{ABSENT}"


def run_line(server, line, folder, filename=ABSENT):
    line = line.replace("8080", str(server.port)).replace(ABSENT, filename)
    out = subprocess.run(
        line, shell=True, cwd=folder, check=True, capture_output=True
    ).stdout
    return json.loads(out, object_pairs_hook=unique_keys) if out else None


def test_curl_lines_work_as_they_stand(server, base):
    created = run_line(server, CURL_CREATE, base)
    assert_entry(created, ["database", "filename", "size", "created_at"])
    name = created["filename"]
    summary = {k: created[k] for k in ("filename", "size", "created_at")}
    assert run_line(server, CURL_LIST, base) == {"backups": [summary]}
    answer = run_line(server, CURL_RESTORE, base, name)
    assert answer == {"database": "default", "restored_from": name}
    assert run_line(server, CURL_DOWNLOAD, base, name) is None
    dbfile.assert_backup_ok(base / "backup.db")
    assert (base / "backup.db").stat().st_size == created["size"]
    assert run_line(server, CURL_DELETE, base, name) == {"status": "deleted"}
    assert run_line(server, CURL_DELETE, base, name)["error"] == "NOT_FOUND"


# ---- part 2: download ----


@pytest.fixture
def stored(server):
    """A backup's path in the API, and its bytes."""
    name = server.create()["filename"]
    return f"{BACKUP}/{name}/download", server.backup_path(name).read_bytes()


def test_download_headers(server, stored):
    path, content = stored
    name = path.split("/")[-2]
    response = server.get(path)
    assert response.header("Content-Length") == str(len(content))
    assert response.header("Accept-Ranges") == "bytes"
    assert response.header("Content-Disposition") == f'attachment; filename="{name}"'
    assert re.fullmatch(r'"[!#-~]+"', response.header("ETag"))
    assert hashlib.sha256(content).hexdigest()[:16] in response.header("ETag")
    stamp = email.utils.parsedate_to_datetime(response.header("Last-Modified"))
    assert stamp.strftime("app_%Y%m%d_%H%M%S.db") == name
    assert response.header("Last-Modified").endswith(" GMT")


def test_head_answers_as_get_without_a_body(server, stored):
    path, content = stored
    get, head = server.get(path), server.head(path)
    assert head.status == 200 and head.body == b""
    same = ("Content-Length", "ETag", "Last-Modified", "Accept-Ranges", "Content-Type")
    for name in same + ("Content-Disposition",):
        assert head.header(name) == get.header(name), name
    assert server.head(path, range="bytes=0-9").body == b""
    assert server.head(BACKUP).status == 200


RANGES = [
    ("bytes=0-0", 0, 1),
    ("bytes=0-99", 0, 100),
    ("bytes=100-4195", 100, 4096),
    ("bytes=5-", 5, None),
    ("bytes=-1", -1, None),
    ("bytes=-4096", -4096, None),
    ("bytes=-99999999999", 0, None),
    ("bytes=10-99999999999999999", 10, None),
]


@pytest.mark.parametrize("text,first,count", RANGES)
def test_one_range_is_206(server, stored, text, first, count):
    path, content = stored
    wanted = content[first:] if count is None else content[first : first + count]
    response = server.get(path, range=text)
    assert response.status == 206
    assert response.body == wanted
    start = first if first >= 0 else len(content) + first
    span = f"bytes {start}-{start + len(wanted) - 1}/{len(content)}"
    assert response.header("Content-Range") == span
    assert response.header("ETag") == server.get(path).header("ETag")


def test_range_outside_is_416(server, stored):
    path, content = stored
    for text in (f"bytes={len(content)}-", f"bytes={len(content) + 9}-{10**15}"):
        response = server.get(path, range=text)
        assert response.status == 416
        assert response.header("Content-Range") == f"bytes */{len(content)}"
    assert server.get(path, range="bytes=-0").status == 416


def test_if_range(server, stored):
    path, content = stored
    whole = server.get(path)
    tag, stamp = whole.header("ETag"), whole.header("Last-Modified")
    for value, status in [
        (tag, 206),
        (stamp, 206),
        ('"other"', 200),
        ("W/" + tag, 200),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 200),
        ("not a date", 200),
    ]:
        response = server.get(path, range="bytes=3-8", if_range=value)
        assert response.status == status, value
        assert response.body == (content[3:9] if status == 206 else content)


def test_if_none_match_is_304(server, stored):
    path, _ = stored
    tag = server.get(path).header("ETag")
    for value in (tag, "*", "W/" + tag, f'"x", {tag}', f'{tag},"y"'):
        response = server.get(path, if_none_match=value)
        assert response.status == 304 and response.body == b"", value
        assert response.header("ETag") == tag
    assert server.get(path, if_none_match='"x"').status == 200
    assert server.get(path, if_none_match=tag, range="bytes=0-1").status == 304


def test_download_is_resumable_in_pieces(server, stored):
    path, content = stored
    got = b""
    while len(got) < len(content):
        piece = server.get(path, range=f"bytes={len(got)}-{len(got) + 6999}")
        got += piece.body
    assert got == content


# ---- part 2: errors, databases, responses ----


def test_not_found_says_what(server):
    response = server.get(f"{BACKUP}/{ABSENT}/download")
    assert response.status == 404
    assert response.json()["details"]["identifier"] == ABSENT
    assert response.json()["details"]["resource_type"] == "backup"
    response = server.get(BACKUP + "?database=nowhere")
    assert response.status == 404
    assert response.json()["details"]["resource_type"] == "database"
    assert response.json()["details"]["identifier"] == "nowhere"
    response = server.get(API + "/nothing")
    assert response.status == 404
    assert response.json()["details"]["resource_type"] == "route"


def test_restore_of_what_is_not_there_is_404(server):
    assert server.post(f"{BACKUP}/{ABSENT}/restore").status == 404
    assert server.backups() == []


def test_wrong_method_names_the_right_ones(server):
    response = server.request("PUT", BACKUP)
    assert response.status == 405
    allowed = {m.strip() for m in response.header("Allow").split(",")}
    assert allowed == {"GET", "HEAD", "POST"}


def test_request_ids_differ_and_stand_in_the_log(server):
    ids = {server.post(BACKUP).header("X-Request-Id") for _ in range(5)}
    assert len(ids) == 5
    for request_id in ids:
        assert request_id in server.log()


def test_log_is_one_structured_line_per_event(server):
    server.create()
    server.get(BACKUP + "?database=no%20name")
    line = re.compile(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=(debug|info|warn|error) "
        r"event=[a-z0-9_.]+( [a-z0-9_]+=(\"([^\"\\]|\\.)*\"|[^\" ]*))*"
    )
    lines = server.log().splitlines()
    assert lines
    for text in lines:
        assert line.fullmatch(text), text


def test_every_call_takes_a_database(server):
    for name in ("one", "two"):
        assert server.post(DATABASES, {"name": name}).status == 201
    dbfile.execute(server.live("one"), "CREATE TABLE t(x)")
    one = server.create("one")
    assert one["database"] == "one"
    assert server.backups("one") == [one["filename"]]
    assert server.backups("two") == [] == server.backups()
    path = f"{BACKUP}/{one['filename']}"
    assert server.get(path + "/download").status == 404
    assert server.get(path + "/download?database=one").status == 200
    assert server.post(path + "/restore?database=two").status == 404
    response = server.post(path + "/restore?database=one")
    assert response.json() == {"database": "one", "restored_from": one["filename"]}
    assert server.delete(path + "?database=two").status == 404
    assert server.delete(path + "?database=one").status == 200


def test_health_and_readiness(server):
    assert server.get("/healthz").status == 200
    assert server.get("/readyz").status == 200
    assert server.head("/healthz").status == 200


def test_keep_alive_serves_many_requests(server):
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with server.connect() as sock:
        for _ in range(50):
            sock.sendall(request)
            assert read_response(sock).status == 200


def test_pipelined_requests_are_answered_in_order(server):
    first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    second = (
        b"GET /api/v1/none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    with server.connect() as sock:
        sock.sendall(first + second)
        data = b""
        while more := sock.recv(65536):
            data += more
    assert data.index(b" 200 ") < data.index(b" 404 ")


HOSTS = ["localhost", "localhost:1", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:9"]


@pytest.mark.parametrize("host", HOSTS)
def test_our_own_hosts_are_served(server, host):
    raw = f"GET {BACKUP} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert server.raw(raw.encode()).status == 200


def test_a_host_given_at_start_is_served(idle):
    idle.args += ["--host", "backup.example"]
    idle.start()
    for host, status in [
        ("backup.example", 200),
        ("BACKUP.example:81", 200),
        ("backup.example.org", 403),
        ("other.example", 403),
    ]:
        raw = f"GET {BACKUP} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        assert idle.raw(raw.encode()).status == status, host


def test_own_origin_may_post(server):
    own = f"http://127.0.0.1:{server.port}"
    assert server.post(BACKUP, origin=own).status == 200
    assert server.post(BACKUP, sec_fetch_site="same-origin").status == 200
    assert server.post(BACKUP, sec_fetch_site="none").status == 200


# ---- what a copy is ----


def test_copy_keeps_user_version_application_id_and_modes(servers, base):
    server = servers()
    sql = "PRAGMA user_version=42; PRAGMA application_id=1212565075"
    made = dbfile.make(
        base / "x.db", page_size=8192, auto_vacuum=2, encoding="UTF-16be", sql=sql
    )
    live = server.prepare(made)
    server.start()
    path = server.backup_path(server.create()["filename"])
    dbfile.assert_backup_ok(path)
    fields = dbfile.header(path)
    assert (fields["user_version"], fields["application_id"]) == (42, 1212565075)
    assert (fields["page_size"], fields["encoding"]) == (8192, 3)
    assert dbfile.pragma(path, "auto_vacuum", True) == 2
    assert dbfile.content_digest(path, True) == dbfile.content_digest(live)


def test_live_file_of_no_bytes_is_backed_up_as_an_empty_database(servers):
    server = servers()
    server.live().parent.mkdir(parents=True)
    server.live().write_bytes(b"")
    server.start()
    entry = server.create()
    path = server.backup_path(entry["filename"])
    assert entry["size"] > 0
    dbfile.assert_backup_ok(path)
    assert dbfile.query(path, "SELECT count(*) FROM sqlite_master", True) == [(0,)]
    assert server.live().stat().st_size == 0


def test_backup_of_a_missing_live_file_is_404(servers):
    server = servers().start()
    response = server.post(BACKUP)
    assert response.status == 404
    assert response.json()["details"]["resource_type"] == "database"
    assert server.backups() == []


def test_backups_and_their_folders_are_private(server):
    entry = server.create()
    path = server.backup_path(entry["filename"])
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_suffix(".json").stat().st_mode & 0o777 == 0o600
    for folder in (server.folder(), server.folder().parent, server.data / "tmp"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_nothing_of_ours_appears_in_the_live_database(server):
    live = server.live()
    schema = dbfile.query(live, "SELECT name FROM sqlite_master")
    before = dbfile.header(live)
    server.create()
    server.post(f"{BACKUP}/{server.backups()[0]}/verify")
    assert dbfile.query(live, "SELECT name FROM sqlite_master") == schema
    assert dbfile.header(live) == before


# ---- part 3: details and verify ----

DETAILS = [
    "filename",
    "size",
    "created_at",
    "state",
    "digest",
    "sha256",
    "pages",
    "page_size",
    "stored_size",
    "origin",
    "pin",
    "note",
    "proof",
]
PROOF = ["result", "checked_at", "checked", "problem", "not_checked"]


def test_details_of_a_backup(server):
    entry = server.create()
    details = server.details(entry["filename"])
    assert list(details) == DETAILS and list(details["proof"]) == PROOF
    content = server.backup_path(entry["filename"]).read_bytes()
    assert details["sha256"] == hashlib.sha256(content).hexdigest()
    assert details["digest"] == "sha256:" + details["sha256"]
    assert details["size"] == details["pages"] * details["page_size"] == len(content)
    assert details["created_at"] == entry["created_at"]
    assert (details["state"], details["origin"]) == ("good", "manual")
    assert (details["pin"], details["note"]) == (False, None)
    assert details["proof"]["result"] == "ok"
    assert details["proof"]["checked"] == "quick_check"
    assert CREATED.fullmatch(details["proof"]["checked_at"])


def test_details_stand_beside_the_backup(server):
    name = server.create()["filename"]
    beside = server.backup_path(name).with_suffix(".json").read_bytes()
    kept = json.loads(beside, object_pairs_hook=unique_keys)
    assert re.fullmatch("[0-9a-f]{32}", kept.pop("check"))
    assert kept == server.details(name)


def test_safety_backup_says_its_origin(server):
    name = server.create()["filename"]
    safety = server.restore(name)
    assert server.details(safety)["origin"] == "safety"


def test_verify_reads_back_and_keeps_the_result(server):
    name = server.create()["filename"]
    response = server.post(f"{BACKUP}/{name}/verify")
    assert response.status == 200
    body = response.json()
    assert list(body) == DETAILS
    assert body["proof"]["result"] == "ok"
    assert body["proof"]["checked"] == "integrity_check"
    assert server.details(name) == body


def test_details_of_what_is_not_there_is_404(server):
    assert server.get(f"{BACKUP}/{ABSENT}").status == 404
    assert server.post(f"{BACKUP}/{ABSENT}/verify").status == 404


# ---- nothing secret, nothing of ours ----


def test_release_binary_has_no_test_doors(servers, base):
    from server import RELEASE_BIN

    if not RELEASE_BIN.exists():
        pytest.skip(f"no release binary: {RELEASE_BIN.name}")
    server = servers(binary=RELEASE_BIN, env={"HOLDFAST_TEST_KILL": "create.copy:1"})
    server.prepare(dbfile.make(base / "x.db"))
    server.set_clock(86400 * 365)
    server.set_fault("create.copy:EIO")
    server.start()
    now = time.time()
    name = server.create()["filename"]
    stamp = created_at_of(name)
    near = [time.strftime("%Y-%m-%dT%H:%M", time.gmtime(now + s)) for s in (-60, 0, 60)]
    assert stamp[:16] in near
    version = subprocess.run(
        [RELEASE_BIN, "--version"], check=True, capture_output=True, text=True
    ).stdout
    assert "test build" not in version and "3.54" in version


def test_version_of_a_test_build_says_so(server):
    out = subprocess.run(
        [server.binary, "--version"], check=True, capture_output=True, text=True
    ).stdout
    assert "test build" in out and re.search(r"SQLite 3\.\d+\.\d+", out)
    assert not LEAKS.search(out.encode())
