"""A WebSocket server that sends back what it gets, and closes as it is told to.

A text message ``close CODE REASON`` closes with that code and reason. ``headers`` is answered with the handshake's
headers as JSON; ``ping`` makes the server ping and answer ``pong`` when the client's pong came back. ``closed`` is
answered with the code and reason (another code than 1000) with which a client closed an earlier connection.
"""

import asyncio
import json

import websockets

closed = asyncio.Queue()


async def serve(connection):
    try:
        await converse(connection)
    except websockets.ConnectionClosedError as end:
        await closed.put([end.rcvd.code, end.rcvd.reason])


async def converse(connection):
    async for message in connection:
        if isinstance(message, str) and message.startswith("close "):
            _, code, reason = message.split(" ", 2)
            await connection.close(int(code), reason)
            return
        if message == "headers":
            await connection.send(json.dumps(list(connection.request.headers.raw_items())))
        elif message == "ping":
            await (await connection.ping(b"from the server"))
            await connection.send("pong")
        elif message == "closed":
            await connection.send(json.dumps(await closed.get()))
        else:
            await connection.send(message)


async def main():
    async with websockets.serve(serve, "127.0.0.1", 0, subprotocols=["chat"], max_size=None) as server:
        host, port = server.sockets[0].getsockname()
        print(f"listening on {host}:{port}")
        await server.serve_forever()


asyncio.run(main())
