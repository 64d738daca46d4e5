"""Who may do what: the account, sessions, keys, and every route for everybody."""

import json
import re
import subprocess
import threading

import pytest

import dbfile
from server import API, BACKUP, BIN, DATABASES, RELEASE_BIN, wait_for

AUTH = API + "/auth"
NAME, PASSWORD = "operator", "correct horse battery"
JSON = {"Content-Type": "application/json"}
ABSENT = "app_20260413_142530.db"
SCOPES = {
    "list",
    "create",
    "download",
    "restore",
    "delete",
    "import",
    "metrics",
    "admin",
}


class Client:
    """A caller of an authenticated server, with a cookie or a key."""

    def __init__(self, server, cookie=None, key=None):
        self.server = server
        self.headers = {}
        if cookie:
            self.headers["Cookie"] = cookie
        if key:
            self.headers["Authorization"] = f"Bearer {key}"

    def ask(self, method, path, fields=None, headers=None):
        body = None if fields is None else json.dumps(fields)
        sent = {**self.headers, **(JSON if body is not None else {}), **(headers or {})}
        return self.server.request(method, path, body=body, headers=sent)

    def get(self, path):
        return self.ask("GET", path)

    def post(self, path, fields=None):
        return self.ask("POST", path, fields)


def cookie_of(response):
    return re.match(r"holdfast=[A-Za-z0-9_-]{43}", response.header("Set-Cookie"))[0]


def log_in(server, name=NAME, password=PASSWORD):
    answer = Client(server).post(
        AUTH + "/login", {"username": name, "password": password}
    )
    assert answer.status == 200, answer
    return Client(server, cookie=cookie_of(answer))


def new_key(owner, **fields):
    answer = owner.post(AUTH + "/keys", {"name": "k", **fields})
    assert answer.status == 201, answer
    return Client(owner.server, key=answer.json()["key"])


@pytest.fixture
def closed(servers, base):
    """A running server that wants credentials; nobody has set it up."""
    server = servers(args=["--auth", "on"])
    server.prepare(dbfile.make(base / "new.db"))
    return server.start()


@pytest.fixture
def owner(closed):
    """Its operator, logged in."""
    answer = Client(closed).post(
        AUTH + "/setup", {"username": NAME, "password": PASSWORD}
    )
    assert answer.status == 201, answer
    return Client(closed, cookie=cookie_of(answer))


# ---- set-up and login ----


def test_setup_once(closed):
    nobody = Client(closed)
    status = nobody.get(AUTH + "/status").json()
    assert status == {"setup_needed": True, "authenticated": False, "username": None}
    for name, password in (("ab", PASSWORD), (NAME, "short"), ("a b c", PASSWORD)):
        fields = {"username": name, "password": password}
        assert nobody.post(AUTH + "/setup", fields).status == 422
    answer = nobody.post(AUTH + "/setup", {"username": NAME, "password": PASSWORD})
    assert answer.status == 201 and answer.json() == {"username": NAME}
    owner = Client(closed, cookie=cookie_of(answer))
    assert owner.get(BACKUP).status == 200
    again = nobody.post(AUTH + "/setup", {"username": "other", "password": PASSWORD})
    assert again.status == 409
    status = nobody.get(AUTH + "/status").json()
    assert status == {"setup_needed": False, "authenticated": False, "username": None}
    assert owner.get(AUTH + "/status").json()["username"] == NAME


def test_setup_through_a_proxy_needs_the_code(closed):
    fields = {"username": NAME, "password": PASSWORD}
    path = AUTH + "/setup"
    for name in ("X-Forwarded-For", "Forwarded"):
        answer = Client(closed).ask("POST", path, fields, {name: "203.0.113.9"})
        assert answer.status == 403
        assert answer.json()["details"]["reason"] == "setup_code"
    wrong = {**fields, "code": "0" * 32}
    answer = Client(closed).ask("POST", path, wrong, {"Forwarded": "for=1.2.3.4"})
    assert answer.status == 403


def test_cookie(owner):
    answer = Client(owner.server).post(
        AUTH + "/login", {"username": NAME, "password": PASSWORD}
    )
    text = answer.header("Set-Cookie")
    parts = [part.strip() for part in text.split(";")[1:]]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(parts)


def test_wrong_name_and_wrong_password_are_the_same(owner):
    answers = []
    for fields in (
        {"username": NAME, "password": "wrong horse battery"},
        {"username": "nobody", "password": PASSWORD},
    ):
        answer = Client(owner.server).post(AUTH + "/login", fields)
        assert answer.status == 401 and answer.error == "INVALID_CREDENTIALS"
        answers.append(answer.body)
    assert answers[0] == answers[1]


def test_throttle_and_the_owner_goes_on(owner):
    fields = {"username": NAME, "password": "wrong horse battery"}
    seen = [
        Client(owner.server).post(AUTH + "/login", fields).status for _ in range(60)
    ]
    assert set(seen) == {401, 429} and seen.count(401) <= 10
    assert owner.get(BACKUP).status == 200
    assert owner.get(AUTH + "/me").status == 200


def test_many_logins_at_once_do_not_hold_up_others(owner):
    """Some are checked, the rest is refused; meanwhile all else is answered."""
    server, seen = owner.server, []

    def try_once():
        fields = {"username": NAME, "password": "wrong horse battery"}
        seen.append(Client(server).post(AUTH + "/login", fields).status)

    threads = [threading.Thread(target=try_once) for _ in range(100)]
    for thread in threads:
        thread.start()
    assert owner.get(BACKUP).status == 200
    for thread in threads:
        thread.join()
    assert set(seen) <= {401, 429} and seen.count(401) <= 10


# ---- sessions ----


def test_sessions_survive_a_restart_and_end_together(owner):
    server = owner.server
    second = log_in(server)
    server.stop()
    server.start()
    assert owner.get(BACKUP).status == 200
    assert len(owner.get(AUTH + "/sessions").json()["sessions"]) == 2
    assert second.post(AUTH + "/logout").status == 204
    for client in (owner, second):
        assert client.get(BACKUP).status == 401
    server.stop()
    server.start()
    assert owner.get(BACKUP).status == 401


def test_sessions_idle_and_absolute(owner):
    server = owner.server
    server.set_clock(29 * 60)
    assert owner.get(BACKUP).status == 200
    server.set_clock(29 * 60 + 31 * 60)
    assert owner.get(BACKUP).status == 401
    busy = log_in(server)
    begun = server.clock_offset()
    for minutes in range(0, 12 * 60, 20):
        server.set_clock(begun + minutes * 60)
        assert busy.get(BACKUP).status == 200
    server.set_clock(begun + 12 * 3600 + 5)
    assert busy.get(BACKUP).status == 401


def test_one_session_is_ended(owner):
    second = log_in(owner.server)
    sessions = owner.get(AUTH + "/sessions").json()["sessions"]
    (other,) = [s["id"] for s in sessions if not s["current"]]
    assert owner.ask("DELETE", f"{AUTH}/sessions/{other}").status == 204
    assert second.get(BACKUP).status == 401 and owner.get(BACKUP).status == 200
    gone = owner.ask("DELETE", f"{AUTH}/sessions/{other}")
    assert gone.status == 404
    assert gone.json()["details"]["resource_type"] == "session"


def test_password_and_name_change(owner):
    server = owner.server
    wrong = {"old_password": "not it, surely", "new_password": "x" * 8}
    answer = owner.post(AUTH + "/password", wrong)
    assert answer.status == 403
    assert answer.json()["details"]["reason"] == "password"
    right = {"old_password": PASSWORD, "new_password": "another horse"}
    assert owner.post(AUTH + "/password", right).status == 204
    assert owner.get(BACKUP).status == 401
    owner = log_in(server, password="another horse")
    change = {"password": "another horse", "new_username": "keeper"}
    assert owner.post(AUTH + "/username", change).status == 204
    assert owner.get(BACKUP).status == 401
    owner = log_in(server, "keeper", "another horse")
    verify = owner.get(AUTH + "/verify")
    assert verify.status == 200 and verify.header("X-Auth-User") == "keeper"


# ---- keys ----


def test_key_is_shown_once_and_revoked(owner):
    made = owner.post(AUTH + "/keys", {"name": "cron", "scopes": ["list"]}).json()
    assert re.fullmatch(r"hf_live_[A-Za-z0-9_-]{43}", made["key"])
    listed = owner.get(AUTH + "/keys")
    assert made["key"].encode() not in listed.body
    (entry,) = listed.json()["keys"]
    assert entry["id"] == made["id"] and entry["last_used_at"] is None
    key = Client(owner.server, key=made["key"])
    assert key.get(BACKUP).status == 200
    assert owner.get(AUTH + "/keys").json()["keys"][0]["last_used_at"]
    assert owner.ask("DELETE", f"{AUTH}/keys/{made['id']}").status == 204
    assert key.get(BACKUP).status == 401
    assert made["key"] not in owner.server.log()


def test_key_expires(owner):
    server = owner.server
    assert (
        owner.post(
            AUTH + "/keys", {"name": "k", "expires_at": "2001-01-01T00:00:00"}
        ).status
        == 422
    )
    at = owner.post(AUTH + "/keys", {"name": "k"}).json()["created_at"]
    later = f"{at[:4]}-12-31T23:59:59"
    key = new_key(owner, expires_at=later)
    assert key.get(BACKUP).status == 200
    server.set_clock(370 * 86400)
    assert key.get(BACKUP).status == 401


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": 1},
        {"name": ""},
        {"name": "k" * 65},
        {"name": "k", "scopes": []},
        {"name": "k", "scopes": ["everything"]},
        {"name": "k", "scopes": "list"},
        {"name": "k", "databases": []},
        {"name": "k", "databases": ["a,b"]},
        {"name": "k", "databases": [1]},
        {"name": "k", "databases": ["x" * 64] * 20},
        {"name": "k", "expires_at": "tomorrow"},
        {"name": "k", "expires_at": "2027-02-30T00:00:00"},
        {"name": "k", "expires_at": 12345},
        {"name": "k", "more": 1},
    ],
)
def test_keys_that_make_no_sense(owner, fields):
    assert owner.post(AUTH + "/keys", fields).status == 422


def test_key_for_one_database(owner):
    server = owner.server
    assert owner.post(DATABASES, {"name": "other"}).status == 201
    key = new_key(owner, databases=["other"])
    for path in (BACKUP, BACKUP + "?database=default", DATABASES + "/default"):
        answer = key.get(path)
        assert answer.status == 403, path
        assert answer.json()["details"]["reason"] == "database"
    assert key.get(DATABASES + "/nowhere").status == 403
    assert key.get(DATABASES + "/current").status == 403
    assert key.get(BACKUP + "?database=other").status == 200
    assert key.post(BACKUP + "?database=other").status == 200
    names = [d["name"] for d in key.get(DATABASES).json()["databases"]]
    assert names == ["other"]
    admin = new_key(owner, databases=["other"], scopes=["admin"])
    assert admin.get(AUTH + "/keys").status == 403
    assert admin.ask("DELETE", DATABASES + "/other").status == 403
    assert server.is_ready()


def test_broken_credentials_are_nobodys(owner):
    key = owner.post(AUTH + "/keys", {"name": "k"}).json()["key"]
    cookie = owner.headers["Cookie"]
    wrong = [
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer " + key[:-1]},
        {"Authorization": "Bearer " + key + "x"},
        {"Authorization": "Bearer " + key.upper()},
        {"Authorization": "Token " + key},
        {"Authorization": key},
        {"Authorization": "Basic " + key},
        {"Cookie": cookie[:-1]},
        {"Cookie": cookie + "x"},
        {"Cookie": "x" + cookie},
        {"Cookie": cookie.replace("holdfast", "Holdfast")},
        {"Cookie": "holdfast=" + key},
        {"X-Api-Key": key},
        {"Authorization": "Bearer x", "Cookie": cookie},
    ]
    for headers in wrong:
        answer = owner.server.request("GET", BACKUP, headers=headers)
        assert answer.status == 401 and answer.error == "AUTH_REQUIRED", headers
        assert answer.header("WWW-Authenticate").startswith("Bearer")
    for query in (f"?key={key}", f"?access_token={key}", f"?api_key={key}"):
        assert owner.server.request("GET", BACKUP + query).status == 401


# ---- every route for every kind of caller ----

PUBLIC = "public"
KNOWN = "known"
OPERATOR = "operator"
ROUTES = {
    ("POST", BACKUP): "create",
    ("GET", BACKUP): "list",
    ("GET", BACKUP + "/{filename}"): "list",
    ("DELETE", BACKUP + "/{filename}"): "delete",
    ("POST", BACKUP + "/{filename}/restore"): "restore",
    ("GET", BACKUP + "/{filename}/download"): "download",
    ("HEAD", BACKUP + "/{filename}/download"): "download",
    ("POST", BACKUP + "/{filename}/verify"): "create",
    ("GET", DATABASES): "list",
    ("POST", DATABASES): OPERATOR,
    ("GET", DATABASES + "/current"): "list",
    ("PATCH", DATABASES + "/current"): OPERATOR,
    ("GET", DATABASES + "/{name}"): "list",
    ("DELETE", DATABASES + "/{name}"): OPERATOR,
    ("GET", DATABASES + "/{name}/backups"): "list",
    ("GET", AUTH + "/status"): PUBLIC,
    ("POST", AUTH + "/setup"): PUBLIC,
    ("POST", AUTH + "/login"): PUBLIC,
    ("POST", AUTH + "/logout"): OPERATOR,
    ("GET", AUTH + "/me"): KNOWN,
    ("GET", AUTH + "/verify"): KNOWN,
    ("POST", AUTH + "/password"): OPERATOR,
    ("POST", AUTH + "/username"): OPERATOR,
    ("GET", AUTH + "/sessions"): OPERATOR,
    ("DELETE", AUTH + "/sessions/{id}"): OPERATOR,
    ("GET", AUTH + "/keys"): OPERATOR,
    ("POST", AUTH + "/keys"): OPERATOR,
    ("DELETE", AUTH + "/keys/{id}"): OPERATOR,
    ("GET", API + "/openapi.json"): PUBLIC,
    ("GET", "/healthz"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
}


def filled(path):
    path = path.replace("{filename}", ABSENT).replace("{name}", "default")
    return path.replace("{id}", "0123456789abcdef")


def test_every_route_has_its_row(closed):
    paths = closed.get(API + "/openapi.json").json()["paths"]
    served = {(m.upper(), path) for path, item in paths.items() for m in item}
    assert served - set(ROUTES) == set() and set(ROUTES) - served == set()


def callers(owner):
    """Each kind of caller: a client, and the access that it has."""
    server = owner.server
    found = {scope: new_key(owner, scopes=[scope]) for scope in sorted(SCOPES)}
    expiring = new_key(owner, expires_at="2999-01-01T00:00:00")
    revoked = owner.post(AUTH + "/keys", {"name": "gone"}).json()
    assert owner.ask("DELETE", f"{AUTH}/keys/{revoked['id']}").status == 204
    found["all"] = expiring
    found["other database"] = new_key(owner, databases=["elsewhere"])
    found["nobody"] = Client(server)
    found["revoked"] = Client(server, key=revoked["key"])
    found["made up"] = Client(server, key="hf_live_" + "A" * 43)
    found["session"] = owner
    return found


UNKNOWN = {"nobody", "revoked", "made up"}


def expected(kind, need):
    """The refusal that this caller gets on such a route, or None."""
    if need == PUBLIC:
        return None
    if kind in UNKNOWN:
        return 401
    if kind in ("session", "admin") or need == KNOWN:
        return None
    if need == OPERATOR or (kind in SCOPES and kind != need):
        return 403
    return None


def test_route_matrix(owner, report):
    cells = 0
    for kind, client in callers(owner).items():
        for (method, path), need in ROUTES.items():
            if kind in ("session", "admin") and path.endswith("/logout"):
                continue  # it would end the session that the others need
            answer = client.ask(method, filled(path))
            refusal = expected(kind, need)
            where = (kind, method, path, answer)
            if refusal:
                assert answer.status == refusal, where
            elif kind == "other database" and need in SCOPES and path != DATABASES:
                assert answer.status == 403, where
            else:
                assert answer.status not in (401, 403), where
            cells += 1
    report(f"route matrix: {cells} cells, {len(ROUTES)} routes")


def test_what_does_not_exist_is_401_for_nobody(owner):
    nobody = Client(owner.server)
    for method, path in (
        ("GET", "/nothing"),
        ("GET", API + "/backups"),
        ("PUT", BACKUP),
        ("TRACE", "/"),
        ("POST", AUTH + "/nothing"),
    ):
        assert nobody.ask(method, path).status == 401, path
    assert owner.get("/nothing").status == 404
    assert owner.ask("PUT", BACKUP).status == 405


def test_nobody_is_refused_before_the_body_is_read(owner):
    with owner.server.connect() as sock:
        sock.sendall(
            b"POST " + BACKUP.encode() + b" HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 900\r\n\r\n"
        )
        assert b"401" in sock.recv(200).split(b"\r\n")[0]


# ---- how it is started ----


@pytest.mark.parametrize(
    "args, word",
    [
        (["--auth", "off", "--listen", "0.0.0.0:0"], "without authentication"),
        (["--listen", "0.0.0.0:0"], "without TLS"),
        (["--auth", "off", "--allow-plain-http", "--listen", "[::]:0"], "without auth"),
    ],
)
def test_closed_by_default(base, args, word):
    done = subprocess.run(
        [RELEASE_BIN, "serve", "--data", base / "d", *args],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2 and word in done.stderr
    assert not (base / "d").exists()


def test_beyond_loopback_when_asked_for(base):
    with subprocess.Popen(
        [BIN, "serve", "--data", base / "d", "--listen", "0.0.0.0:0"]
        + ["--allow-plain-http"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        lines = [process.stdout.readline() for _ in range(5)]
        process.terminate()
        log = process.stderr.read()
    assert any("auth/setup" in line for line in lines)
    code = re.search(r'"code":"([0-9a-f]{32})"', "".join(lines))
    assert code and code[1] not in log
    assert "level=warn" in log and "without TLS" in log
    wait_for(lambda: process.returncode == 0, "the end")


# ---- the way back in, on the machine itself ----


def run(*args, text=None, **env):
    return subprocess.run(
        [RELEASE_BIN, *args],
        input=text,
        capture_output=True,
        text=True,
        timeout=90,
        env={"PATH": "/usr/bin:/bin", **env},
    )


def test_user_set_under_a_running_server(owner):
    server = owner.server
    done = run(
        "user", "set", "keeper", "--data", server.data, text="forgotten no more\n"
    )
    assert done.returncode == 0, done.stderr
    wait_for(lambda: owner.get(BACKUP).status == 401, "the end of the session")
    assert log_in(server, "keeper", "forgotten no more").get(BACKUP).status == 200
    for name, password in (("x", "long enough"), ("keeper", "short")):
        done = run("user", "set", name, "--data", server.data, text=password + "\n")
        assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_key_commands_under_a_running_server(closed):
    url = f"http://127.0.0.1:{closed.port}"
    done = run("list", "--server", url)
    assert done.returncode == 8, done.stderr
    args = ("--data", str(closed.data))
    done = run("key", "create", "cron", "--scopes", "create,list", *args)
    assert done.returncode == 0 and done.stdout.startswith("hf_live_"), done.stderr
    key = done.stdout.strip()
    wait_for(lambda: Client(closed, key=key).get(BACKUP).status == 200, "the key")
    done = run("backup", "--server", url, "--json", HOLDFAST_API_KEY=key)
    assert done.returncode == 0, done.stderr
    name = json.loads(done.stdout)["filename"]
    done = run("delete", name, "--server", url, HOLDFAST_API_KEY=key)
    assert done.returncode == 8 and "scope delete" in done.stderr, done.stderr
    listed = run("key", "list", *args)
    assert "cron" in listed.stdout and key not in listed.stdout
    (entry,) = json.loads(run("key", "list", "--json", *args).stdout)["keys"]
    assert entry["scopes"] == "list,create"
    assert run("key", "revoke", entry["id"], *args).returncode == 0
    wait_for(lambda: Client(closed, key=key).get(BACKUP).status == 401, "its end")
    assert run("key", "revoke", entry["id"], *args).returncode == 3
    for wrong in (
        ["create"],
        ["revoke"],
        ["nonsense"],
        ["create", "k", "--scopes", "x"],
    ):
        assert run("key", *wrong, *args).returncode == 2, wrong
    assert run("key", "list", "--data", closed.data / "nowhere").returncode in (1, 3)
    assert run("key", "list").returncode == 2
