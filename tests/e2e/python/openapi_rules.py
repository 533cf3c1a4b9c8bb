"""What Schemathesis checks beside its own rules (`SCHEMATHESIS_HOOKS` names this module).

`TOKEN_ID` is a token that is there. `KEY_IS_SENT` is `no` when no request brings a key.
"""

import itertools
import os
import re

import schemathesis
from schemathesis import GenerationMode

# What HTTP itself and the guards of the listener put on every answer, whatever was asked.
ON_EVERY_ANSWER = {
    "allow",
    "cache-control",
    "connection",
    "content-length",
    "content-security-policy",
    "content-type",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "date",
    "permissions-policy",
    "referrer-policy",
    "vary",
    "x-content-type-options",
    "x-frame-options",
}

# Fields with a rule that a JSON schema cannot tell: of the clock, of lengths in bytes, of segments, of earlier answers,
# of `1.0`, which is an integer to JSON Schema.
JUDGED_BEYOND_THE_SCHEMA = {"expires_at", "expires_in", "grace_period", "resources", "cursor", "limits"}

IF_MATCH = re.compile(r'("[0-9a-f]{64}"|\*)')
IDEMPOTENCY_KEY = re.compile(r"[!-~]{1,200}")

numbers = itertools.count(1)


def fits_the_schema(case):
    return case.meta is not None and case.meta.generation.mode == GenerationMode.POSITIVE


@schemathesis.hook
def before_call(ctx, case, kwargs):
    headers = case.headers
    # Schemathesis makes values of this header by a rule of its own and passes over the pattern.
    if_match = headers.get("If-Match")
    if fits_the_schema(case) and if_match is not None and not IF_MATCH.fullmatch(if_match):
        headers["If-Match"] = "*"
    # It sends the same few keys again and again, and the answer of an earlier request says nothing of this one.
    key = headers.get("Idempotency-Key")
    if key is not None and IDEMPOTENCY_KEY.fullmatch(key):
        headers["Idempotency-Key"] = f"{key}-{next(numbers)}"
    if case.operation.path.endswith("/explain") and fits_the_schema(case) and isinstance(case.body, dict):
        case.body["token_id"] = os.environ["TOKEN_ID"]


@schemathesis.check
def every_header_is_documented(ctx, response, case):
    documented = case.operation.responses.find_by_status_code(response.status_code)
    if documented is None:
        # Schemathesis itself tells a status that is not documented, but for methods that are not there.
        return
    names = {name.lower() for name in documented.definition["headers"]}
    unknown = {name.lower() for name in response.headers} - names - ON_EVERY_ANSWER
    assert not unknown, f"headers that the document does not have: {sorted(unknown)}"
    missing = names - {"idempotent-replayed"} - {name.lower() for name in response.headers}
    assert not missing, f"headers that the answer does not have: {sorted(missing)}"


@schemathesis.check
def what_fits_the_schema_is_refused_for_its_meaning_only(ctx, response, case):
    if not fits_the_schema(case):
        return
    assert response.status_code not in (400, 413, 415), response.text
    if response.status_code == 422:
        assert response.json()["field"] in JUDGED_BEYOND_THE_SCHEMA, response.text


@schemathesis.check
def nothing_is_told_without_a_key(ctx, response, case):
    if os.environ["KEY_IS_SENT"] == "no":
        assert response.status_code == 401, response.text
        assert response.headers["www-authenticate"] == ['Bearer realm="faregate-admin"'], response.headers
