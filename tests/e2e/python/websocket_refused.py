"""Opens a WebSocket that must be refused: ``websocket_refused.py HOST:PORT STATUS [TOKEN]``."""

import asyncio
import sys

import websockets


async def main(address, status, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        await websockets.connect(f"ws://{address}/echo/stream", additional_headers=headers, proxy=None)
    except websockets.InvalidStatus as refusal:
        assert refusal.response.status_code == int(status), refusal
        print(f"refused with {status}")
    else:
        raise AssertionError("the handshake was let through")


asyncio.run(main(*sys.argv[1:]))
