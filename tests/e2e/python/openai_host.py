"""Calls the gate by a host name that no namespace is for: ``openai_host.py HOST:PORT TOKEN``."""

import sys

import httpx2
import openai


def main(address, token):
    client = openai.OpenAI(
        base_url=f"http://{address}/v1", api_key=token, max_retries=0, http_client=httpx2.Client(trust_env=False)
    )
    try:
        client.chat.completions.create(model="org/echo", messages=[{"role": "user", "content": "unheard"}])
    except openai.NotFoundError as refusal:
        # Before a namespace is known there is no form of its clients, so this is where the text stands.
        assert refusal.body["detail"] == "No namespace is served under this host name.", refusal.body
        print(refusal.body["reason"])


main(*sys.argv[1:])
