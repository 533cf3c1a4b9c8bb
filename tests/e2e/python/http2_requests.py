"""Unpacks the requests of HTTP/2 connections: ``http2_requests.py FILE...``, each with what one client sent.

Prints a JSON list of ``{"headers": [[name, value]...], "body": text}``; trailers stand behind the headers. What is no
ASCII in a body is escaped.
"""

import json
import sys

from hpack import Decoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, CONTINUATION = 0, 1, 9
END_HEADERS, PADDED, PRIORITY = 0x4, 0x8, 0x20


def frames(sent):
    assert not sent or sent.startswith(PREFACE), sent[:40]
    at = len(PREFACE)
    # The last frame may still be on its way.
    while len(sent) >= at + 9:
        length, kind, flags = int.from_bytes(sent[at:at + 3], "big"), sent[at + 3], sent[at + 4]
        stream = int.from_bytes(sent[at + 5:at + 9], "big") & 0x7FFFFFFF
        payload = sent[at + 9:at + 9 + length]
        at += 9 + length
        yield kind, flags, stream, payload


def unpadded(flags, payload):
    return payload[1:len(payload) - payload[0]] if flags & PADDED else payload


def requests(sent):
    decoder = Decoder(max_header_list_size=1 << 20)
    decoder.max_allowed_table_size = 1 << 20
    found = {}
    block = b""
    for kind, flags, stream, payload in frames(sent):
        if kind == DATA:
            found[stream]["body"] += unpadded(flags, payload)
        if kind == HEADERS:
            block = unpadded(flags, payload)[5 if flags & PRIORITY else 0:]
        if kind == CONTINUATION:
            block += payload
        if kind in (HEADERS, CONTINUATION) and flags & END_HEADERS:
            request = found.setdefault(stream, {"headers": [], "body": b""})
            request["headers"] += decoder.decode(block)
    return found.values()


def main(*files):
    found = []
    for file in files:
        with open(file, "rb") as sent:
            found += requests(sent.read())
    print(json.dumps([
        {"headers": [list(header) for header in request["headers"]],
         "body": request["body"].decode("ascii", "backslashreplace")} for request in found
    ]))


main(*sys.argv[1:])
