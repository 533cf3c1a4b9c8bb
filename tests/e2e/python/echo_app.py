"""An ASGI model server that tells what it received, keeps uploads, and streams events one acknowledgement at a time.

* ``/echo/...``: method, path, query, headers, and the body's length and SHA-256, as JSON.
* ``PUT /file`` keeps the body, ``GET /file`` streams it back in pieces of 64 KiB.
* ``GET /events/NAME?count=N`` sends event 0, and event n + 1 only after ``POST /acknowledge/NAME/n``: a gate that
  held back a single event would wait for ever.
"""

import asyncio
import collections
import hashlib
import json

PIECE = 64 * 1024

kept = b""
acknowledged = collections.defaultdict(asyncio.Event)


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        return await stay(receive, send)
    path = scope["path"]
    if path.startswith("/echo"):
        await echo(scope, receive, send)
    elif path == "/file":
        await file(scope, receive, send)
    elif path.startswith("/events/"):
        await events(path.removeprefix("/events/"), scope, send)
    elif path.startswith("/acknowledge/"):
        acknowledged[path.removeprefix("/acknowledge/")].set()
        await answer(send, 200, b"{}")
    else:
        await answer(send, 404, b"{}")


async def stay(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def body_of(receive):
    """The request's body, piece by piece."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the gate went away in the middle of a body")
        more = message.get("more_body", False)
        yield message.get("body", b"")


async def answer(send, status, body, content_type=b"application/json"):
    headers = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def echo(scope, receive, send):
    digest, length = hashlib.sha256(), 0
    async for piece in body_of(receive):
        digest.update(piece)
        length += len(piece)
    told = {
        "method": scope["method"],
        "path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "headers": {name.decode(): value.decode("latin-1") for name, value in scope["headers"]},
        "length": length,
        "sha256": digest.hexdigest(),
    }
    await answer(send, 200, json.dumps(told).encode())


async def file(scope, receive, send):
    global kept
    if scope["method"] == "PUT":
        pieces = [piece async for piece in body_of(receive)]
        kept = b"".join(pieces)
        return await answer(send, 201, json.dumps({"length": len(kept)}).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/octet-stream")]})
    for start in range(0, len(kept), PIECE):
        await send({"type": "http.response.body", "body": kept[start : start + PIECE], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def events(name, scope, send):
    count = int(scope["query_string"].removeprefix(b"count="))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for number in range(count):
        event = f"id: {number}\ndata: token {number}\n\n".encode()
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await acknowledged[f"{name}/{number}"].wait()
    await send({"type": "http.response.body", "body": b""})
