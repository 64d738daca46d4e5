"""The OpenAPI document is true to the running server.

Its structure is checked with a small checker of our own; every operation in
it exists; every answer seen in the whole session has a documented status and
a body and headers as described; and every documented status is provoked here,
500 and 507 by way of the test build's fault file.
"""

import json
import re

import pytest

import dbfile
import server as harness
from server import API, BACKUP, DATABASES, Response, read_response, wait_for

ABSENT = "app_20260413_142530.db"
METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
JSON = {"Content-Type": "application/json"}


# ---- a checker of documents and of values against schemas ----


class Document:
    """An OpenAPI document with its references resolved on the way."""

    def __init__(self, root):
        self.root = root

    def resolve(self, node):
        while isinstance(node, dict) and "$ref" in node:
            path = node["$ref"]
            assert path.startswith("#/"), path
            node = self.root
            for part in path[2:].split("/"):
                node = node[part.replace("~1", "/").replace("~0", "~")]
        return node

    def operations(self):
        for path, item in self.root["paths"].items():
            for method, operation in item.items():
                yield method.upper(), path, operation

    def find(self, method, path):
        """The operation that a request's path belongs to, or None."""
        found = []
        for other, template, operation in self.operations():
            pattern = re.sub(
                r"\{[a-z]+\}",
                "[^/]+",
                re.escape(template).replace(r"\{", "{").replace(r"\}", "}"),
            )
            if other == method and re.fullmatch(pattern, path):
                found.append((template.count("{"), template, operation))
        return min(found, key=lambda f: f[0])[1:] if found else None

    def references(self):
        """Every $ref in the document."""
        nodes = [self.root]
        while nodes:
            node = nodes.pop()
            if isinstance(node, dict):
                if "$ref" in node:
                    yield node["$ref"]
                nodes += node.values()
            elif isinstance(node, list):
                nodes += node


TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def of_type(value, names):
    names = [names] if isinstance(names, str) else names
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, TYPES[name]) for name in names)


def mismatch(doc, schema, value, at="body"):
    """The first thing about value that the schema forbids, or None."""
    schema = doc.resolve(schema)
    if "type" in schema and not of_type(value, schema["type"]):
        return f"{at}: {value!r} is no {schema['type']}"
    if "const" in schema and value != schema["const"]:
        return f"{at}: {value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{at}: {value!r} is none of {schema['enum']}"
    if "minimum" in schema and of_type(value, "number") and value < schema["minimum"]:
        return f"{at}: {value} is below {schema['minimum']}"
    if "maximum" in schema and of_type(value, "number") and value > schema["maximum"]:
        return f"{at}: {value} is above {schema['maximum']}"
    if "pattern" in schema and isinstance(value, str):
        if not re.search(schema["pattern"], value):
            return f"{at}: {value!r} does not match {schema['pattern']}"
    return (
        combined_mismatch(doc, schema, value, at)
        or object_mismatch(doc, schema, value, at)
        or array_mismatch(doc, schema, value, at)
    )


def combined_mismatch(doc, schema, value, at):
    for part in schema.get("allOf", []):
        wrong = mismatch(doc, part, value, at)
        if wrong:
            return wrong
    if "oneOf" in schema:
        fitting = [s for s in schema["oneOf"] if not mismatch(doc, s, value, at)]
        if len(fitting) != 1:
            return f"{at}: {value!r} fits {len(fitting)} of oneOf"
    if "not" in schema and not mismatch(doc, schema["not"], value, at):
        return f"{at}: {value!r} is excluded"
    return None


def object_mismatch(doc, schema, value, at):
    if not isinstance(value, dict):
        return None
    properties = schema.get("properties", {})
    for key in schema.get("required", []):
        if key not in value:
            return f"{at}: {key} is missing"
    for key, item in value.items():
        if key in properties:
            wrong = mismatch(doc, properties[key], item, f"{at}.{key}")
            if wrong:
                return wrong
        elif schema.get("additionalProperties") is False:
            return f"{at}: {key} is not documented"
    return None


def array_mismatch(doc, schema, value, at):
    if not isinstance(value, list):
        return None
    if len(value) > schema.get("maxItems", len(value)):
        return f"{at}: {len(value)} items"
    for i, item in enumerate(value):
        wrong = mismatch(doc, schema.get("items", {}), item, f"{at}[{i}]")
        if wrong:
            return wrong
    return None


def answer_mismatch(doc, description, response, method):
    """The first difference between an answer and its description, or None."""
    for name, header in description.get("headers", {}).items():
        wrong = header_mismatch(doc, name, doc.resolve(header), response)
        if wrong:
            return wrong
    content = description.get("content", {})
    if not content or method == "HEAD":
        return f"a body of {len(response.body)} bytes" if response.body else None
    kind = (response.header("Content-Type") or "").split(";")[0]
    if kind not in content:
        return f"Content-Type {kind} is not among {list(content)}"
    if kind == "application/json" and "schema" in content[kind]:
        return mismatch(doc, content[kind]["schema"], json.loads(response.body))
    return None


def header_mismatch(doc, name, header, response):
    value = response.header(name)
    if value is None:
        return f"{name} is missing" if header.get("required") else None
    schema = doc.resolve(header["schema"])
    if schema.get("type") == "integer":
        value = int(value)
    return mismatch(doc, schema, value, name)


# ---- the document by itself ----


@pytest.fixture
def doc(server):
    response = server.get(API + "/openapi.json")
    assert response.status == 200
    return Document(response.json())


def test_document_is_openapi_3_1(doc):
    root = doc.root
    assert re.fullmatch(r"3\.1\.\d+", root["openapi"])
    assert root["info"]["title"] and root["info"]["version"]
    known = {"openapi", "info", "servers", "paths", "components", "tags", "security"}
    assert all(key in known or key.startswith("x-") for key in root)
    for reference in doc.references():
        assert doc.resolve({"$ref": reference}) is not None


def test_operations_are_well_formed(doc):
    ids = []
    tags = {tag["name"] for tag in doc.root["tags"]}
    for method, path, operation in doc.operations():
        assert path.startswith("/") and method.lower() in METHODS
        assert operation["summary"] and set(operation["tags"]) <= tags
        ids.append(operation["operationId"])
        check_parameters(doc, path, operation)
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status)
            assert doc.resolve(response)["description"], (path, status)
    assert len(ids) == len(set(ids)) >= 12


def check_parameters(doc, path, operation):
    found = [doc.resolve(p) for p in operation.get("parameters", [])]
    names = {p["name"] for p in found if p["in"] == "path"}
    assert names == set(re.findall(r"\{([a-z]+)\}", path)), path
    for parameter in found:
        assert parameter["in"] in ("path", "query", "header")
        assert parameter["description"] and parameter["schema"]
        assert parameter.get("required", False) == (parameter["in"] == "path")


def test_examples_fit_their_schemas(doc):
    for method, path, operation in doc.operations():
        bodies = [doc.resolve(r) for r in operation["responses"].values()]
        bodies.append(operation.get("requestBody", {}))
        for body in bodies:
            for kind, content in body.get("content", {}).items():
                for example in examples(content):
                    wrong = mismatch(doc, content["schema"], example)
                    assert wrong is None, (method, path, wrong)


def examples(content):
    if "example" in content:
        yield content["example"]
    for example in content.get("examples", {}).values():
        yield example["value"]


def test_every_operation_exists(doc, server):
    for method, path, _ in doc.operations():
        response = server.request(method, filled(path))
        assert response.status != 405, (method, path)
        if response.status == 404 and method != "HEAD":
            assert response.json()["details"]["resource_type"] != "route", path


def filled(template, name="nowhere"):
    """A path with something in its holes."""
    path = template.replace("{filename}", ABSENT).replace("{name}", name)
    return path.replace("{id}", "0123456789abcdef")


# ---- every documented status ----


class Provoker:
    """Brings about each documented status of each operation."""

    def __init__(self, server, doc, seen=None):
        self.server = server
        self.doc = doc
        self.seen = {} if seen is None else seen

    def note(self, method, template, response):
        self.seen.setdefault((method, template), set()).add(response.status)

    def ask(self, method, template, path, body=None, headers=None):
        response = self.server.request(method, path, body=body, headers=headers)
        self.note(method, template, response)
        return response

    def everywhere(self):
        """What can be provoked in the same way everywhere."""
        for method, template, operation in self.doc.operations():
            path = filled(template)
            self.refusals(method, template, path)
            if "requestBody" in operation:
                text = {"Content-Type": "text/plain"}
                self.ask(method, template, path, b"text", text)
                self.ask(method, template, path, b'{"x":1}', JSON)
            wrong = template.replace("{filename}", "x.db").replace("{name}", "..")
            self.ask(method, template, wrong)
            if BACKUP in template:
                self.ask(method, template, path + "?database=..")
                self.ask(method, template, path + "?database=nowhere")

    def refusals(self, method, template, path):
        self.ask(method, template, path)
        self.ask(method, template, path + "?nonsense=1")
        self.ask(method, template, path, headers={"Host": "evil.example"})
        self.ask(method, template, path + "?x=" + "y" * 9000)
        self.ask(method, template, path, headers={f"X-{i}": "y" for i in range(80)})
        self.ask(method, template, path, b" " * 50000, JSON)

    def faults(self):
        """500 and 507, at the step that every call of the API begins with."""
        for method, template, operation in self.doc.operations():
            for status, name in (("500", "EIO"), ("507", "ENOSPC")):
                if status in operation["responses"]:
                    self.fault(method, template, name)

    def fault(self, method, template, name):
        """Find the operation's step by what is in the phase file."""
        path = filled(template)
        self.server.set_fault("")
        self.server.phase_file.write_text("")
        body = b'{"name":"x"}' if "databases" in path and method != "DELETE" else None
        body = body if method in ("POST", "PATCH") else None
        self.ask(method, template, path + "?nonsense=1", body, JSON if body else None)
        self.server.set_fault(f"{self.server.phase()}:{name}")
        self.ask(method, template, path, body, JSON if body else None)
        self.server.set_fault("")


def provoke_good(p, base):
    """The statuses of success, and the conflicts."""
    entry = p.ask("POST", BACKUP, BACKUP).json()
    name = entry["filename"]
    one = f"{BACKUP}/{name}"
    template = BACKUP + "/{filename}"
    p.ask("GET", BACKUP, BACKUP)
    p.ask("GET", template, one)
    p.ask("POST", template + "/verify", one + "/verify")
    p.ask("POST", template + "/restore", one + "/restore")
    download = one + "/download"
    for method in ("GET", "HEAD"):
        tag = p.ask(method, template + "/download", download).header("ETag")
        for headers in (
            {"Range": "bytes=0-9"},
            {"Range": "bytes=999999999-"},
            {"If-None-Match": tag},
        ):
            p.ask(method, template + "/download", download, headers=headers)
    p.ask("DELETE", template, one)
    provoke_databases(p)


def provoke_databases(p):
    def put(method, path, name):
        return p.ask(method, path, path, json.dumps({"name": name}), JSON)

    put("POST", DATABASES, "second")
    put("POST", DATABASES, "second")
    put("PATCH", DATABASES + "/current", "second")
    put("PATCH", DATABASES + "/current", "default")
    put("PATCH", DATABASES + "/current", "nowhere")
    p.ask("GET", DATABASES, DATABASES)
    p.ask("GET", DATABASES + "/current", DATABASES + "/current")
    for name in ("second", "default"):
        one = f"{DATABASES}/{name}"
        p.ask("GET", DATABASES + "/{name}", one)
        p.ask("GET", DATABASES + "/{name}/backups", one + "/backups")
        p.ask("DELETE", DATABASES + "/{name}", one)
    for path in ("/healthz", "/readyz", API + "/openapi.json"):
        p.ask("GET", path, path)


def provoke_auth(p, closed):
    """What a server with authentication says, to nobody and to its operator."""
    p = Provoker(closed, p.doc, p.seen)
    auth = API + "/auth"

    def post(word, fields, cookie=None):
        headers = {**JSON, **({"Cookie": cookie} if cookie else {})}
        path = f"{auth}/{word}"
        return p.ask("POST", path, path, json.dumps(fields), headers)

    def get(word, cookie, method="GET"):
        template = re.sub(r"/[0-9a-f]{16}$", "/{id}", f"{auth}/{word}")
        return p.ask(method, template, f"{auth}/{word}", headers={"Cookie": cookie})

    for method, template, _ in p.doc.operations():
        p.ask(method, template, filled(template))
    person = {"username": "operator", "password": "correct horse"}
    for word in ("setup", "login"):
        post(word, {"x": 1})
    cookie = post("setup", person).header("Set-Cookie").split(";")[0]
    for word in ("password", "username", "keys", "logout"):
        post(word, {"x": 1}, cookie)
    for word in ("status", "me", "verify", "sessions", "keys"):
        get(word, cookie)
    for word in ("keys", "sessions"):
        get(word + "/0123456789abcdef", cookie, "DELETE")
    post("login", person)
    made = post("keys", {"name": "k"}, cookie).json()
    get(f"keys/{made['id']}", cookie, "DELETE")
    sessions = get("sessions", cookie).json()["sessions"]
    (other,) = [s["id"] for s in sessions if not s["current"]]
    get(f"sessions/{other}", cookie, "DELETE")
    again = {"old_password": person["password"], "new_password": person["password"]}
    post("password", again, cookie)
    cookie = post("login", person).header("Set-Cookie").split(";")[0]
    change = {"password": person["password"], "new_username": "operator"}
    post("username", change, cookie)
    cookie = post("login", person).header("Set-Cookie").split(";")[0]
    for _ in range(8):
        post("login", {**person, "password": "wrong horse"})
        post("password", {**again, "old_password": "wrong horse"}, cookie)
        post("username", {**change, "password": "wrong horse"}, cookie)
    post("logout", {}, cookie)


def provoke_conflicts(p, base):
    """409: a create of a link, a restore of another encoding."""
    server = p.server
    made = dbfile.make(base / "utf16.db", encoding="UTF-16le", journal="delete")
    server.folder().mkdir(parents=True, exist_ok=True)
    other = "app_20200101_000000.db"
    made.rename(server.backup_path(other))
    wait_for(lambda: other in server.backups(), "the adopted backup")
    template = BACKUP + "/{filename}/restore"
    assert p.ask("POST", template, f"{BACKUP}/{other}/restore").status == 409
    link = server.live().with_name("second-name.db")
    link.hardlink_to(server.live())
    assert p.ask("POST", BACKUP, BACKUP).status == 409
    link.unlink()


def provoke_stopping(p, base):
    """503 everywhere: requests that come while the server is stopping.

    A restore that has begun to write is brought to its end; that of many small
    pages takes long enough to ask everything meanwhile.
    """
    server = p.server
    name = "app_20200101_000001.db"
    many = dbfile.make(base / "many.db", 120000, page_size=512, journal="delete")
    many.rename(server.backup_path(name))
    dbfile.make(server.live(), page_size=512, journal="delete")
    path = f"{BACKUP}/{name}/restore"
    with server.connect() as held:
        held.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_for(lambda: server.phase() == "restore.write", "the restore to write")
        server.process.terminate()
        wait_for(lambda: server.get("/healthz").status == 503, "the stop to begin")
        for method, template, _ in p.doc.operations():
            p.ask(method, template, filled(template, "default"))
        assert read_response(held).status == 200
    server.join(0)


def test_every_documented_status_is_seen(doc, server, servers, base, report):
    p = Provoker(server, doc)
    closed = servers(name="closed", args=["--auth", "on"])
    provoke_auth(p, closed.start())
    provoke_good(p, base)
    p.everywhere()
    p.faults()
    provoke_conflicts(p, base)
    provoke_stopping(p, base)
    missing = []
    n = 0
    for method, template, operation in doc.operations():
        documented = {int(status) for status in operation["responses"]}
        n += len(documented)
        for status in sorted(documented - p.seen[method, template]):
            missing.append(f"{method} {template} {status}")
    report(f"OpenAPI: {n} documented statuses, {len(missing)} not seen")
    assert missing == []


@pytest.mark.last
def test_no_undocumented_answer_in_the_whole_session(doc, report):
    """Every answer of every test was documented, with that body."""
    wrong, n = [], 0
    for (method, path, status), response in harness.SEEN.items():
        found = doc.find(method, path)
        if found is None and method == "HEAD":
            found = doc.find("GET", path)
        if found is None:
            assert status in (401, 403, 404, 405, 414, 431), (method, path, status)
            continue
        template, operation = found
        description = operation["responses"].get(str(status))
        if description is None:
            wrong.append(f"{method} {template}: {status} is not documented")
            continue
        n += 1
        text = answer_mismatch(doc, doc.resolve(description), response, method)
        if text:
            wrong.append(f"{method} {template} {status}: {text}")
    report(f"OpenAPI: {n} kinds of answers in this session, as documented")
    assert sorted(set(wrong)) == []


# ---- the checker can fail ----


def test_control_checker_reports_differences():
    doc = Document(
        {"components": {"schemas": {"N": {"type": "integer", "minimum": 0}}}}
    )
    number = {"$ref": "#/components/schemas/N"}
    thing = {
        "type": "object",
        "required": ["n"],
        "additionalProperties": False,
        "properties": {"n": number, "s": {"type": ["string", "null"], "pattern": "^a"}},
    }
    assert mismatch(doc, thing, {"n": 1, "s": None}) is None
    assert mismatch(doc, thing, {"n": 1, "s": "abc"}) is None
    for value in ({}, {"n": -1}, {"n": "1"}, {"n": True}, {"n": 1, "s": "b"}, [], None):
        assert mismatch(doc, thing, value), value
    assert mismatch(doc, thing, {"n": 1, "extra": 0})
    response = Response(200, [("Content-Type", "text/plain")], b"{}")
    description = {"content": {"application/json": {"schema": thing}}}
    assert answer_mismatch(doc, description, response, "GET")
