"""Opens a WebSocket as a browser's script would, which can set no header: ``websocket_browser.py HOST:PORT TOKEN``."""

import asyncio
import json
import sys

import websockets


async def main(address, token):
    offered = [f"faregate.token.{token}", "chat"]
    async with websockets.connect(f"ws://{address}/echo/stream", subprotocols=offered, proxy=None) as connection:
        assert connection.subprotocol == "chat", connection.subprotocol
        await connection.send("headers")
        headers = await connection.recv()
        assert token not in headers, headers
        offered_to_server = [value for name, value in json.loads(headers) if name.lower() == "sec-websocket-protocol"]
        assert offered_to_server == ["chat"], offered_to_server
        print("let through")


asyncio.run(main(*sys.argv[1:]))
