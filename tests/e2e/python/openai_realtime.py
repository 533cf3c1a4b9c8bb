"""Opens realtime connections as a browser does, which can set no header: ``openai_realtime.py HOST:PORT TOKENS``.

``TOKENS`` is a JSON object with the secrets ``echo`` (may call ``org/echo``) and ``all``. Prints one line for each
thing that was as it should be; anything else ends with an assertion.
"""

import asyncio
import json
import sys

import websockets


async def main(address, tokens):
    tokens = json.loads(tokens)

    def connect(query, token, *others):
        protocols = ["realtime", *([f"faregate.token.{token}"] if token else []), *others]
        return websockets.connect(f"ws://{address}/v1/realtime{query}", subprotocols=protocols, proxy=None)

    for holder, model, expected in [("echo", "org/echo", "one two"), ("all", "org/reverse", "two one")]:
        async with connect(f"?model={model}", tokens[holder]) as connection:
            assert connection.subprotocol == "realtime", connection.subprotocol
            created = json.loads(await connection.recv())
            assert created["session"] == {"model": model}, created
            assert created["received"]["sec-websocket-protocol"] == "realtime", created
            assert "fg_" not in json.dumps(created), created
            await connection.send(json.dumps({"type": "response.create", "instructions": "one two"}))
            answer = json.loads(await connection.recv())
            assert answer == {"type": "response.output_text.done", "text": expected}, answer
        print(f"{holder}: {model}")

    async def refused(status, reason, query, token, *others):
        try:
            await connect(query, token, *others)
        except websockets.InvalidStatus as refusal:
            answer = refusal.response
            assert (answer.status_code, answer.headers["faregate-reason"]) == (status, reason), answer
            assert "fg_" not in str(answer.headers) + answer.body.decode(), answer
            print(f"{reason}: {query}")
        else:
            raise AssertionError(f"the handshake was let through: {query}")

    await refused(403, "resource_not_allowed", "?model=org/reverse", tokens["echo"])
    await refused(403, "resource_not_allowed", "?model=org%2Freverse", tokens["echo"])
    await refused(400, "model_conflict", "?model=org/echo&model=org/reverse", tokens["echo"])
    await refused(400, "model_conflict", "?model=org/echo&%6Dodel=org/reverse", tokens["echo"])
    await refused(403, "model_unresolved", "", tokens["all"])
    await refused(401, "no_credential", "?model=org/echo", None)
    await refused(401, "invalid_token", "?model=org/echo", tokens["echo"][:-1])
    await refused(400, "ambiguous_credential", "?model=org/echo", tokens["echo"], f"faregate.token.{tokens['all']}")


asyncio.run(main(*sys.argv[1:]))
