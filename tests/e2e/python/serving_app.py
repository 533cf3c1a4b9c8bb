"""An ASGI model server that has every route and every model, and keeps the record of what reached it.

``GET /received`` tells the record, as ``[[method, target], ...]``, and begins a new one; the gate has no route for it.
Everything else is answered with what came: method, target, headers, and the body's text. Tensors of the Open Inference
Protocol come back as they went in, under the name of the model.
"""

import json

received = []


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        return await stay(receive, send)
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    target = scope["raw_path"].decode() + ("?" + scope["query_string"].decode() if scope["query_string"] else "")
    if target == "/received":
        record = list(received)
        received.clear()
        return await answer(send, record)
    received.append([scope["method"], target])
    if target.endswith("/infer"):
        request = json.loads(body)
        outputs = [{name: tensor[name] for name in ("name", "shape", "datatype", "data")} for tensor in request["inputs"]]
        return await answer(send, {"model_name": target.split("/")[3], "outputs": outputs})
    headers = {name.decode(): value.decode() for name, value in scope["headers"]}
    await answer(send, {"method": scope["method"], "target": target, "headers": headers, "body": body.decode()})


async def stay(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def answer(send, value):
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
