"""Talks through the gate with ``websocket_server.py``: ``websocket_client.py HOST:PORT TOKEN``.

Prints one line for each thing that was as it should be; anything else ends with an assertion.
"""

import asyncio
import json
import sys

import websockets


async def main(address, token):
    url = f"ws://{address}/echo/stream"
    credential = {"Authorization": f"Bearer {token}"}

    def connect():
        return websockets.connect(url, additional_headers=credential, subprotocols=["chat"], max_size=None, proxy=None)

    async with connect() as connection:
        assert connection.subprotocol == "chat", connection.subprotocol
        print("subprotocol")

        for text in ["hello", "", "Grüße, 世界 🌸", "x" * 100_000]:
            await connection.send(text)
            assert await connection.recv() == text
        print("text")

        for binary in [b"\x00\xff\x80" * 3, bytes(range(256)) * 8192]:
            await connection.send(binary)
            received = await connection.recv()
            assert isinstance(received, bytes) and received == binary
        print("binary")

        await connection.send([b"one ", b"message ", b"in fragments"])
        assert await connection.recv() == b"one message in fragments"
        print("fragments")

        # The future is done when a pong with the same payload came back.
        await (await connection.ping(b"from the client"))
        await connection.send("ping")
        assert await connection.recv() == "pong"
        print("ping")

        await connection.send("headers")
        headers = [(name.lower(), value) for name, value in json.loads(await connection.recv())]
        names = [name for name, _ in headers]
        assert "authorization" not in names, names
        assert token not in json.dumps(headers)
        assert dict(headers)["x-consumer-username"] == "everything", headers
        print("headers")

        await connection.send("close 4321 the model is tired")
        try:
            await connection.recv()
            raise AssertionError("the connection stayed open")
        except websockets.ConnectionClosed as end:
            assert end.rcvd.code == 4321 and end.rcvd.reason == "the model is tired", end
        print("close by the server")

    connection = await connect()
    await connection.close(4001, "seen enough")
    async with connect() as connection:
        await connection.send("closed")
        assert json.loads(await connection.recv()) == [4001, "seen enough"]
    print("close by the client")


asyncio.run(main(*sys.argv[1:]))
