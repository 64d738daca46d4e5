"""Bad input: the right status and error body, and nothing changed on disk.

A table of raw requests against one server.  After each the server answers as
before; after all of them the data directory is the same byte by byte and
nothing more is open.  `any of` several statuses stands where the HTTP library
decides, before a route is reached; such an answer may be bare.
"""

import json

import pytest

import dbfile
from server import BACKUP, DATABASES, Server, check_error_body, wait_for

NAME = "app_20260413_142530.db"  # replaced by the name of a backup that is there
ABSENT = "app_20010203_040506.db"
JSON = "Content-Type: application/json"
OK = {200}


def request(method, target, *headers, body=b"", host="localhost"):
    """A request's bytes; a body gets its length unless a header speaks of it."""
    lines = [f"{method} {target} HTTP/1.1".encode()]
    if host is not None:
        lines.append(b"Host: " + host.encode())
    lines += [h if isinstance(h, bytes) else h.encode() for h in headers]
    told = b"\n".join(lines[1:]).lower()
    if body and b"content-length" not in told and b"transfer-encoding" not in told:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body


def row(label, wanted, data):
    """One line of the table; `wanted` is a status, a set of them, or None."""
    return pytest.param(data, wanted, id=label)


def names():
    """What stands where a filename belongs."""
    wrong = """
        x.db app.db - ~ * app_20260413_142530 app_20260413_142530.DB
        APP_20260413_142530.db app_20260413_142530.db. app_2026041_142530.db
        app_202604133_142530.db app_20260413142530.db app_20260413_142530.json
        app_20260413_142530.db-wal app_20260413_142530.sql xapp_20260413_142530.db
        app_20260413_14253a.db app-20260413-142530.db app_20260230_142530.db
        app_20251301_000000.db app_20250001_000000.db app_20250100_000000.db
        app_20250431_000000.db app_20230229_000000.db app_20260413_240000.db
        app_20260413_236000.db app_20260413_235960.db app_99999999_999999.db
        app_-0260413_142530.db app_+0260413_142530.db .. . ... %2e%2e %2E%2e %2e
        %252e%252e ..%5c..%5capp.db app_20260413_142530.db%20
        %20app_20260413_142530.db app_20260413_142530.db;x
        %E2%80%AEapp_20260413_142530.db %F0%9F%92%BE
        app_%D9%A2%D9%A0%D9%A2%D9%A60413_142530.db suspect con $(id)
        app_20260413_142530.db%7C %3Cscript%3E '%20OR%201=1--
    """.split()
    wrong += ["x" * 300, "app_" + "2" * 4000 + ".db"]
    for name in wrong:
        yield row(f"details {name[:30]}", 422, request("GET", f"{BACKUP}/{name}"))
    for name in wrong[::7] + ["..", "%2e%2e"]:
        for method, tail in [
            ("POST", "/restore"),
            ("GET", "/download"),
            ("DELETE", ""),
        ]:
            target = f"{BACKUP}/{name}{tail}"
            yield row(f"{method}{tail} {name[:30]}", 422, request(method, target))


def escapes():
    """Escapes that break HTTP's rules, and decoded slashes."""
    for text in [
        "%00",
        NAME + "%00",
        "%00" + NAME,
        "app%00.db",
        "%",
        "%2",
        "%zz",
        "%%30",
    ]:
        yield row(f"escape {text}", 400, request("GET", f"{BACKUP}/{text}"))
    for text in ["%ff", "%c0%ae%c0%ae", "%ed%a0%80", "%f5%80%80%80", "a%80", "%c3"]:
        yield row(f"utf8 {text}", 400, request("GET", f"{BACKUP}/{text}"))
        yield row(
            f"utf8 query {text}", 400, request("GET", f"{BACKUP}?database={text}")
        )
    slashes = [
        "..%2f..%2fetc%2fpasswd",
        "%2f",
        f"%2e%2e%2f{NAME}",
        "a%2Fb",
        "..%2Fapp.db",
    ]
    for text in slashes:
        yield row(f"slash {text}", 404, request("GET", f"{BACKUP}/{text}"))
        yield row(f"slash {text} delete", 404, request("DELETE", f"{BACKUP}/{text}"))
    for text in ["%0a", NAME + "%0a", NAME + "%0d%0aX:%20y", "%7f", "%1b"]:
        yield row(f"control {text}", {400, 422}, request("GET", f"{BACKUP}/{text}"))


def routes():
    """Paths that are none of ours."""
    for path in f"""
        / /api /api/v1 /api/v1/ /api/v2/backup /API/v1/backup //api/v1/backup
        {BACKUP}/ {BACKUP}//restore {BACKUP}/{NAME}/ {BACKUP}/{NAME}/x
        {BACKUP}/{NAME}/restore/ {BACKUP}/{NAME}/download/x
        {BACKUP}/../../../etc/passwd /api/v1/../v1/backup /.git/config
        {DATABASES}/ {DATABASES}/default/backups/x {DATABASES}//backups
        /healthz/ /readyz/x /holdfast.db /databases/default/app.db
    """.split():
        yield row(f"route {path}", 404, request("GET", path))


def methods():
    """Methods that a path does not have."""
    for line in f"""
        PUT {BACKUP}; DELETE {BACKUP}; PATCH {BACKUP}; OPTIONS {BACKUP}
        TRACE {BACKUP}; BREW {BACKUP}; get {BACKUP}; PROPFIND {BACKUP}
        POST {BACKUP}/{NAME}; PUT {BACKUP}/{NAME}; PATCH {BACKUP}/{NAME}
        POST {BACKUP}/{NAME}/download; DELETE {BACKUP}/{NAME}/download
        GET {BACKUP}/{NAME}/restore; PUT {BACKUP}/{NAME}/restore
        HEAD {BACKUP}/{NAME}/restore; GET {BACKUP}/{NAME}/verify
        PUT {DATABASES}; DELETE {DATABASES}; PUT {DATABASES}/default
        POST {DATABASES}/default/backups; POST {DATABASES}/current
        POST /healthz; DELETE /readyz; POST /api/v1/openapi.json
    """.replace(
        "\n", ";"
    ).split(
        ";"
    ):
        if not line.strip():
            continue
        method, path = line.split()
        yield row(f"{method} {path}", 405, request(method, path))


def queries():
    """Queries of every call that takes one."""
    wrong_names = """
        .. . a/b a%2fb current a%20b a.b %C3%A4 ..%2f.. a%5cb a* a+b %27 a%0ab
    """.split()
    wrong_names += ["", "x" * 65]
    for name in wrong_names:
        wanted = {400, 422} if "%0a" in name else 422
        yield row(
            f"db {name[:20]}", wanted, request("GET", f"{BACKUP}?database={name}")
        )
    for name in wrong_names[-6:]:
        create = request("POST", f"{BACKUP}?database={name}")
        yield row(f"db create {name[:20]}", 422, create)
    for target, wanted in [
        (f"{BACKUP}?database=nowhere", 404),
        (f"{BACKUP}?database=Default", 404),
        (f"{BACKUP}?database=default&database=default", 400),
        (f"{BACKUP}?database=default&database=other", 400),
        (f"{BACKUP}?data%62ase=default", 200),
        (f"{BACKUP}?Database=default", 400),
        (f"{BACKUP}?nonsense=1", 400),
        (f"{BACKUP}?=1", 400),
        (f"{BACKUP}?database", 422),
        (f"{BACKUP}?database=%00", 400),
        (f"{BACKUP}?database=%zz", 400),
        (f"{BACKUP}?%00=1", 400),
        (f"{BACKUP}/{NAME}/download?suspect=perhaps", 400),
        (f"{BACKUP}/{NAME}/download?force=true", 400),
        (f"{DATABASES}/default/backups?limit=0", 400),
        (f"{DATABASES}/default/backups?limit=-1", 400),
        (f"{DATABASES}/default/backups?limit=1001", 400),
        (f"{DATABASES}/default/backups?limit=99999999999999999999", 400),
        (f"{DATABASES}/default/backups?limit=1e3", 400),
        (f"{DATABASES}/default/backups?limit=", 400),
        (f"{DATABASES}/default/backups?before=yesterday", 422),
        (f"{DATABASES}/default/backups?before=app_20260230_000000.db", 422),
        (f"{DATABASES}?x=1", 400),
    ]:
        yield row(f"GET {target[-60:]}", wanted, request("GET", target))
    for value in ("1", "yes", "", "TRUE"):
        target = f"{BACKUP}/{ABSENT}/restore?force={value}"
        yield row(f"force={value}", 400, request("POST", target))


def hosts():
    """A Host that is missing, doubled or not ours; requests across sites."""
    yield row("no host", 400, request("GET", BACKUP, host=None))
    yield row("two hosts", 400, request("GET", BACKUP, "Host: localhost"))
    yield row("two other hosts", 400, request("GET", BACKUP, "Host: evil.example"))
    strange = """
        evil.example localhost.evil.example 127.0.0.1.evil.example 127.0.0.2
        localhost:8080.evil.example localhost@evil.example 0.0.0.0 [::2] [::1 ::1
        user@localhost localhost:port localhost: localhost/ localhost.
        127.1 2130706433 0x7f.1
    """.split()
    for host in [*strange, "local host", ""]:
        wanted = {200, 400, 403} if host in ("localhost:", "localhost.") else {400, 403}
        yield row(f"host {host}", wanted, request("GET", BACKUP, host=host))
    for header in [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: https://localhost.evil",
        "Origin: http://127.0.0.1.evil",
        "Origin: file://",
        "Origin: ",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Sec-Fetch-Site: x",
    ]:
        for method, path in [("POST", BACKUP), ("DELETE", f"{BACKUP}/{NAME}")]:
            yield row(f"{method} {header}", 403, request(method, path, header))
        yield row(f"GET {header}", OK, request("GET", BACKUP, header))


def framing():
    """Bodies whose length is told twice, wrongly or not at all."""
    at = f"POST {BACKUP} HTTP/1.1\r\nHost: localhost\r\n".encode()
    two = b"Content-Length: 2\r\n"
    chunked = b"Transfer-Encoding: chunked\r\n"
    bare = {400, 411, 413, 501, 505, None}
    for label, wanted, tail in [
        ("two lengths", 400, two + two + b"\r\n{}"),
        ("two other lengths", 400, two + b"Content-Length: 3\r\n\r\n{}"),
        ("length and chunked", 400, two + chunked + b"\r\n2\r\n{}\r\n0\r\n\r\n"),
        ("chunked and length", 400, chunked + two + b"\r\n2\r\n{}\r\n0\r\n\r\n"),
        ("length list", bare, b"Content-Length: 2, 2\r\n\r\n{}"),
        ("negative length", bare, b"Content-Length: -2\r\n\r\n{}"),
        ("plus length", bare, b"Content-Length: +2\r\n\r\n{}"),
        ("hex length", bare, b"Content-Length: 0x2\r\n\r\n{}"),
        ("word length", bare, b"Content-Length: two\r\n\r\n{}"),
        ("empty length", bare, b"Content-Length: \r\n\r\n"),
        ("huge length", bare, b"Content-Length: 99999999999999999999999\r\n\r\n{}"),
        ("long length", {413, 415}, b"Content-Length: 9223372036854775807\r\n\r\n{}"),
        ("gzip coding", bare, b"Transfer-Encoding: gzip\r\n\r\n{}"),
        ("two codings", bare, chunked + chunked + b"\r\n2\r\n{}\r\n0\r\n\r\n"),
        ("bad chunk", bare, chunked + b"\r\nzz\r\n{}\r\n0\r\n\r\n"),
        ("negative chunk", bare, chunked + b"\r\n-2\r\n{}\r\n0\r\n\r\n"),
        ("huge chunk", bare, chunked + b"\r\nffffffffffffffffff\r\n{}\r\n"),
        ("chunk without end", bare, chunked + b"\r\n2\r\n{}xx0\r\n\r\n"),
    ]:
        yield row(label, wanted, at + b"Connection: close\r\n" + tail)


def lines():
    """Request lines and header fields that are not HTTP's."""
    bare = {400, 405, 501, 505, None}
    rest = b"Host: localhost\r\nConnection: close\r\n\r\n"
    for label, wanted, data in [
        ("no version", bare, b"GET /api/v1/backup\r\n" + rest),
        ("HTTP/9.9", bare, b"GET /api/v1/backup HTTP/9.9\r\n" + rest),
        ("HTTP/2 line", bare, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("garbage", bare, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ("only spaces", bare, b"   \r\n\r\n"),
        ("no target", bare, b"GET  HTTP/1.1\r\n" + rest),
        ("asterisk", {400, 404, 405}, b"OPTIONS * HTTP/1.1\r\n" + rest),
        (
            "absolute form",
            {200, 400, 404},
            b"GET http://localhost/healthz HTTP/1.1\r\n" + rest,
        ),
        ("relative target", {400, 404}, b"GET api/v1/backup HTTP/1.1\r\n" + rest),
        ("NUL in target", bare, b"GET /api/v1/ba\0ckup HTTP/1.1\r\n" + rest),
        ("control in target", bare, b"GET /api/v1/\x01backup HTTP/1.1\r\n" + rest),
        ("raw 8 bit target", {400, 404}, b"GET /api/v1/\xff HTTP/1.1\r\n" + rest),
        ("field without colon", bare | OK, b"GET /healthz HTTP/1.1\r\nHost\r\n" + rest),
        ("NUL in field", bare, b"GET /healthz HTTP/1.1\r\nX: a\0b\r\n" + rest),
        ("target too long", 414, b"GET /" + b"a" * 8300 + b" HTTP/1.1\r\n" + rest),
        (
            "query too long",
            414,
            b"GET /healthz?" + b"a" * 8300 + b" HTTP/1.1\r\n" + rest,
        ),
    ]:
        yield row(label, wanted, data)
    many = [f"X-{i}: y" for i in range(80)]
    yield row("80 fields", 431, request("GET", BACKUP, *many))
    yield row("17 KiB field", 431, request("GET", BACKUP, "X: " + "y" * 17000))
    yield row(
        "17 KiB of fields", 431, request("GET", BACKUP, *["X: " + "y" * 900] * 20)
    )


def bodies():
    """What is sent where JSON belongs."""
    deep = b'{"name":' + b"[" * 3000 + b"]" * 3000 + b"}"
    for label, wanted, body in [
        ("empty", 400, b""),
        ("broken", 400, b'{"name"'),
        ("not JSON", 400, b"name=x"),
        ("single quotes", 400, b"{'name':'x'}"),
        ("trailing comma", 400, b'{"name":"x",}'),
        ("two documents", 400, b'{"name":"x"}{"name":"y"}'),
        ("trailing text", 400, b'{"name":"x"} y'),
        ("doubled key", 400, b'{"name":"x","name":"y"}'),
        ("invalid UTF-8", 400, b'{"name":"\xff\xfe"}'),
        ("lone surrogate", 400, b'{"name":"\\ud800"}'),
        ("NUL byte", 400, b'{"name":"a\0b"}'),
        ("escaped NUL", {400, 422}, b'{"name":"a\\u0000b"}'),
        ("deep array", {400, 422}, b"[" * 5000 + b"]" * 5000),
        ("deep value", {400, 422}, deep),
        ("byte order mark", 400, b'\xef\xbb\xbf{"name":"x"}'),
        ("NaN", 400, b'{"name":NaN}'),
        ("huge number", {400, 422}, b'{"name":1e999999}'),
        ("an array", 400, b'["name"]'),
        ("a string", 400, b'"name"'),
        ("null", 400, b"null"),
        ("no name", 422, b"{}"),
        ("number name", 422, b'{"name":5}'),
        ("null name", 422, b'{"name":null}'),
        ("object name", 422, b'{"name":{"a":1}}'),
        ("unknown field", 422, b'{"name":"x","colour":"red"}'),
        ("empty name", 422, b'{"name":""}'),
        ("dotted name", 422, b'{"name":"../x"}'),
        ("slash name", 422, b'{"name":"a/b"}'),
        ("long name", 422, b'{"name":"' + b"x" * 65 + b'"}'),
        ("reserved name", 422, b'{"name":"current"}'),
        ("path outside", 422, b'{"name":"x","path":"/etc/passwd"}'),
        ("relative path", 422, b'{"name":"x","path":"../../x.db"}'),
        ("empty path", 422, b'{"name":"x","path":""}'),
        ("number path", 422, b'{"name":"x","path":1}'),
        ("taken name", 409, b'{"name":"default"}'),
        ("too large", 413, b'{"name":"' + b"x" * 40000 + b'"}'),
    ]:
        yield row(f"body {label}", wanted, request("POST", DATABASES, JSON, body=body))
    switch = request("PATCH", f"{DATABASES}/current", JSON, body=b'{"name":"nowhere"}')
    yield row("switch to none", 404, switch)
    for kind in [
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "",
    ]:
        header = f"Content-Type: {kind}"
        data = request("POST", DATABASES, header, body=b'{"name":"x"}')
        yield row(f"type {kind}", 415, data)
    yield row("no type", 415, request("POST", DATABASES, body=b'{"name":"x"}'))
    yield row("create with text", 415, request("POST", BACKUP, body=b"hello"))
    field = request("POST", BACKUP, JSON, body=b'{"a":1}')
    yield row("create with a field", 422, field)
    yield row("create too large", 413, request("POST", BACKUP, JSON, body=b" " * 9000))
    yield row("list with a body", 413, request("GET", BACKUP, JSON, body=b"{}"))
    for path in (BACKUP, f"{BACKUP}/{NAME}", f"{DATABASES}/default"):
        method = "GET" if path != BACKUP else "DELETE"
        wanted = 413 if method == "GET" else {405, 413}
        data = request(method, path, JSON, body=b"x" * 9000)
        yield row(f"{method} {path} with a body", wanted, data)


def ranges():
    """Ranges of every odd kind: one is honoured, what is not one is ignored."""
    path = f"{BACKUP}/{NAME}/download"
    for text, wanted in [
        ("bytes=0-0", 206),
        ("bytes=0-", 206),
        ("bytes=-1", 206),
        ("bytes= 0-0", {200, 206}),
        ("bytes=0-0,2-2", 200),
        ("bytes=0-0,", {200, 206}),
        ("bytes=,0-0", {200, 206}),
        ("bytes=5-4", {200, 416}),
        ("bytes=-0", 416),
        ("bytes=99999999999-", 416),
        ("bytes=18446744073709551616-", {200, 416}),
        ("bytes=-18446744073709551616", {200, 206}),
        ("bytes=9223372036854775807-9223372036854775807", 416),
        ("bytes=", 200),
        ("bytes", 200),
        ("", 200),
        ("lines=0-1", 200),
        ("bytes=a-b", 200),
        ("bytes=1", 200),
        ("bytes=--1", 200),
        ("bytes=+1-2", 200),
        ("bytes=0x1-0x2", 200),
        ("bytes 0-1", 200),
        ("bytes=1-2-3", 200),
        ("BYTES=0-0", {200, 206}),
        ("bytes=-", 200),
        ("bytes=0-\t1", 200),
    ]:
        yield row(f"range {text}", wanted, request("GET", path, f"Range: {text}"))
    data = request("GET", path, "Range: bytes=0-0", "Range: bytes=1-1")
    yield row("two ranges", {200, 206, 400}, data)
    for header in [
        "If-None-Match: x",
        'If-None-Match: "',
        "If-None-Match: W/",
        "If-Range: ",
    ]:
        yield row(header, OK, request("GET", path, header))


TABLE = [
    *names(),
    *escapes(),
    *routes(),
    *methods(),
    *queries(),
    *hosts(),
    *framing(),
    *lines(),
    *bodies(),
    *ranges(),
]
assert len(TABLE) >= 150


def unchanging(server):
    """The data directory as it must stay; the catalog's content counts."""
    return dbfile.tree(server.data)


class Target:
    """One server for the whole table, and how it was before."""

    def __init__(self, base):
        self.server = Server(base / "one")
        self.server.prepare(dbfile.make(base / "x.db"))
        self.server.start()
        self.name = self.server.create()["filename"]
        self.server.get(f"{BACKUP}/{self.name}/download")
        self.tree = unchanging(self.server)
        self.descriptors = self.server.descriptors()


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    value = Target(tmp_path_factory.mktemp("bad-input"))
    yield value
    try:
        value.server.stop()
    finally:
        value.server.abandon()


def is_bare(response):
    return (response.header("Content-Type") or "").split(";")[0] != "application/json"


@pytest.mark.parametrize("data,wanted", TABLE)
def test_bad_input(target, data, wanted):
    wanted = wanted if isinstance(wanted, set) else {wanted}
    method = data.split(b" ")[0].decode("latin-1")
    data = data.replace(NAME.encode(), target.name.encode())
    response = target.server.raw(data, method)
    status = response.status if response else None
    assert status in wanted, response
    if response and status >= 400 and method != "HEAD":
        if None not in wanted or not is_bare(response):
            check_error_body(response)
    assert target.server.get("/healthz").status == 200


def test_afterwards_nothing_has_changed(target, report):
    assert unchanging(target.server) == target.tree
    wait_for(
        lambda: len(target.server.descriptors()) <= len(target.descriptors),
        f"{target.server.descriptors()} to be as {target.descriptors}",
    )
    listed = target.server.get(BACKUP).json()["backups"]
    assert [entry["filename"] for entry in listed] == [target.name]
    assert (
        json.loads(target.server.get(DATABASES).body)["databases"][0]["name"]
        == "default"
    )
    report(f"Bad input: {len(TABLE)} requests, nothing changed")
