"""Tries every route of REST that a profile has, with ``requests``: ``rest_client.py PROFILE GATE SERVER TOKENS ROUTES``.

``GATE`` and ``SERVER`` are ``HOST:PORT``, the second that of ``serving_app.py`` itself. ``TOKENS`` is as for
``serving_client.py``. ``ROUTES`` is what ``faregate routes --json`` tells: the tables here were written from what the
model servers document, and have to have a line for each route of the program. Prints how many lines were tried;
anything that is not as it should be ends with an assertion.
"""

import json
import sys

import requests

PUBLIC, CALL, MANAGE, DENY = "public", "model-evaluation", "model-management", "deny"
ANY = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# Methods, path, group, and how a refusal looks there.
TORCHSERVE = [
    (("GET",), "/ping", PUBLIC, "problem"),
    (("OPTIONS",), "/", CALL, "problem"),
    (("GET",), "/api-description", CALL, "problem"),
    *[((*"GET POST PUT OPTIONS".split(),), f"/{kind}/{{model}}{rest}", CALL, "problem")
      for kind in ("predictions", "explanations") for rest in ("", "/{version}", "/{version}/{rest...}")],
    (("POST",), "/models/{model}/invoke", CALL, "problem"),
    (("POST", "PUT"), "/wfpredict/{model}", CALL, "problem"),
    (("GET",), "/v1/models/{model}", CALL, "error"),
    (("POST",), "/v1/models/{model}:predict", CALL, "error"),
    (("POST",), "/v1/models/{model}:explain", CALL, "error"),
    (("GET",), "/v2", PUBLIC, "error"),
    (("GET",), "/v2/health/live", PUBLIC, "error"),
    (("GET",), "/v2/health/ready", PUBLIC, "error"),
    (("POST",), "/v2/models/{model}/infer", CALL, "error"),
    (("POST",), "/v2/models/{model}/explain", CALL, "error"),
    (("GET", "POST"), "/models", MANAGE, "problem"),
    (("GET", "PUT", "DELETE", "OPTIONS"), "/models/{model}", MANAGE, "problem"),
    (ANY, "/models/{model}/{rest...}", MANAGE, "problem"),
    (ANY, "/workflows", MANAGE, "problem"),
    (ANY, "/workflows/{rest...}", MANAGE, "problem"),
    (ANY, "/invocations", DENY, "problem"),
    (ANY, "/token", DENY, "problem"),
    (ANY, "/metrics", DENY, "problem"),
]

TENSORFLOW_SERVING = [
    *[(("POST",), f"/v1/models/{{model}}{which}:{verb}", CALL, "error")
      for verb in ("predict", "classify", "regress") for which in ("", "/versions/{version}", "/labels/{label}")],
    *[(("GET",), f"/v1/models/{{model}}{which}{what}", CALL, "error")
      for which in ("", "/versions/{version}", "/labels/{label}") for what in ("", "/metadata")],
    (ANY, "/monitoring/{rest...}", DENY, "error"),
]

TRITON = [
    *[((method,), f"/v2/models/{{model}}{version}/{what}", CALL, "error")
      for method, what in [("POST", "generate"), ("POST", "generate_stream"), ("GET", "config"), ("GET", "stats")]
      for version in ("", "/versions/{version}")],
    (("GET", "POST"), "/v2/models/{model}/trace/setting", MANAGE, "error"),
    (("GET", "POST"), "/v2/trace/setting", MANAGE, "error"),
    (("GET", "POST"), "/v2/logging", MANAGE, "error"),
    (ANY, "/v2/systemsharedmemory/{rest...}", MANAGE, "error"),
    (ANY, "/v2/cudasharedmemory/{rest...}", MANAGE, "error"),
    (("POST",), "/v1/models/{model}/load", MANAGE, "openai"),
    (("POST",), "/v1/models/{model}/unload", MANAGE, "openai"),
]

KSERVE_V1 = [
    (("GET",), "/", PUBLIC, "error"),
    (("GET",), "/v1/models", CALL, "error"),
    (("GET",), "/v1/models/{model}", CALL, "error"),
    (("POST",), "/v1/models/{model}:predict", CALL, "error"),
    (("POST",), "/v1/models/{model}:explain", CALL, "error"),
]

TABLES = {"torchserve": TORCHSERVE, "tensorflow-serving": TENSORFLOW_SERVING, "triton": TRITON, "kserve-v1": KSERVE_V1}

# Their answers tell of no model, so every token with the group gets them.
FOR_EVERY_RESOURCE = {"/", "/api-description"}

# What stands in the place of a name in braces. A version that is another model's name changes nothing.
NAMES = {"{version}": "2", "{label}": "stable", "{rest...}": "fraud-v1/status"}


def written_out(path, model):
    for name, value in {**NAMES, "{model}": model}.items():
        path = path.replace(name, value)
    return path


class Gate:
    def __init__(self, gate, server, tokens):
        self.gate = gate
        self.server = server
        self.tokens = json.loads(tokens)
        self.session = requests.Session()
        # Nothing of the environment: no proxy, no .netrc.
        self.session.trust_env = False

    def send(self, method, path, token=None, **named):
        headers = {"authorization": f"Bearer {self.tokens[token]}"} if token else {}
        body = {"data": '{"inputs": [], "instances": [[5.0, 3.4, 1.5, 0.2]]}'} if method in ("POST", "PUT", "PATCH") else {}
        return self.session.request(method, f"http://{self.gate}{path}", headers=headers, **body, **named)

    def received(self):
        return self.session.get(f"http://{self.server}/received").json()

    def assert_arrives(self, method, path, token):
        answer = self.send(method, path, token)
        assert answer.status_code == 200, (method, path, token, answer.status_code, answer.text)
        assert "faregate-reason" not in answer.headers, answer.headers
        assert self.received() == [[method, path]], (method, path)
        if method == "HEAD" or path.endswith("/infer"):
            return
        told = answer.json()
        assert not any(secret in answer.text for secret in self.tokens.values()), answer.text
        assert "authorization" not in told["headers"], told
        assert told["headers"].get("x-consumer-username") == token, told

    def assert_refused(self, method, path, token, status, reason, dialect):
        answer = self.send(method, path, token)
        told = (method, path, token, answer.status_code, answer.headers, answer.text)
        assert (answer.status_code, answer.headers.get("faregate-reason")) == (status, reason), told
        assert answer.headers["cache-control"] == "no-store", told
        assert not any(secret in answer.text for secret in self.tokens.values()), told
        if status in (401, 403):
            assert answer.headers["www-authenticate"].startswith('Bearer realm="default"'), told
        assert self.received() == [], told
        if method == "HEAD":
            return
        body = answer.json()
        if dialect == "error":
            assert list(body) == ["error"] and isinstance(body["error"], str), told
        elif dialect == "openai":
            assert list(body) == ["error"] and sorted(body["error"]) == ["code", "message", "param", "type"], told
            assert body["error"]["code"] == reason, told
        else:
            assert answer.headers["content-type"] == "application/problem+json", told
            assert body["reason"] == reason and body["status"] == status, told

    def try_line(self, method, path, group, dialect):
        """Once allowed and once refused for every reason there is."""
        own, other = written_out(path, "iris-v1"), written_out(path, "fraud-v1")
        if group == PUBLIC:
            self.assert_arrives(method, own, None)
            # Public is this method, and no other.
            self.assert_refused("DELETE", own, "administrator", 403, "no_route", "problem")
            self.assert_refused("DELETE", own, None, 401, "no_credential", "problem")
            return
        self.assert_refused(method, own, None, 401, "no_credential", dialect)
        if group == DENY:
            for token in self.tokens:
                self.assert_refused(method, own, token, 403, "route_denied", dialect)
            return
        one, all_models = {CALL: ("iris", "caller"), MANAGE: ("manager", "administrator")}[group]
        for token in {CALL: ("manager", "administrator"), MANAGE: ("iris", "caller")}[group]:
            self.assert_refused(method, own, token, 403, "group_not_allowed", dialect)
        self.assert_arrives(method, own, all_models)
        if "{model}" in path:
            self.assert_arrives(method, own, one)
            self.assert_refused(method, other, one, 403, "resource_not_allowed", dialect)
            self.assert_refused(method, f"{own}?model=fraud-v1", all_models, 400, "model_conflict", dialect)
        elif path in FOR_EVERY_RESOURCE:
            self.assert_arrives(method, own, one)
        else:
            self.assert_refused(method, own, one, 403, "resource_not_allowed", dialect)


def main(profile, gate, server, tokens, routes):
    table = TABLES[profile]
    told = {(tuple(route["methods"]), route["path"], route["group"]) for route in json.loads(routes)["routes"]
            if route["profile"] == profile and not any(model.startswith("grpc") for model in route["model"])
            and not is_grpc(route["path"])}
    written = {(("*",) if methods is ANY else methods, path, group) for methods, path, group, _ in table}
    assert told == written, (told - written, written - told)
    assert len(written) == len(table), "a line is there twice"

    gate = Gate(gate, server, tokens)
    tried = 0
    for methods, path, group, dialect in table:
        # `GET` covers `HEAD`.
        for method in methods if methods is ANY or "GET" not in methods else (*methods, "HEAD"):
            gate.try_line(method, path, group, dialect)
            tried += 1
    gate.assert_refused("GET", "/nothing-here", "caller", 403, "no_route", "problem")
    print(f"{len(table)} routes, {tried} with each method")


def is_grpc(path):
    """Whether it is `/package.Service/Method`."""
    return "." in path.split("/")[1] and path.count("/") == 2


main(*sys.argv[1:])
