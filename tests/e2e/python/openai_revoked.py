"""Reads a chat as it streams, until the gate ends it: ``openai_revoked.py HOST:PORT TOKEN``.

The model says its second word only when it is told to, and is not: nothing but the gate can end the answer.
"""

import socket
import sys

import httpx2
import openai


def main(address, token):
    client = openai.OpenAI(
        base_url=f"http://{address}/v1",
        api_key=token,
        max_retries=0,
        timeout=None,
        http_client=httpx2.Client(trust_env=False, timeout=None),
    )
    with socket.create_server(("127.0.0.1", 0)) as acknowledged:
        host, port = acknowledged.getsockname()
        asked = [{"role": "user", "content": f"one two waiting at {host}:{port}"}]
        stream = client.chat.completions.create(model="org/echo", messages=asked, stream=True)
        assert next(stream).choices[0].delta.content == "one"
        print("the first word")
        try:
            further = next(stream)
        except openai.APIConnectionError:
            print("broken off")
        else:
            raise AssertionError(f"it went on: {further}")
    try:
        client.chat.completions.create(model="org/echo", messages=[{"role": "user", "content": "unheard"}])
    except openai.AuthenticationError as refusal:
        assert "The token is not valid" in str(refusal), refusal
        print("refused")


main(*sys.argv[1:])
