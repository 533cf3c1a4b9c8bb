"""Calls ``grpc_server.py`` through the gate: ``grpc_client.py HOST:PORT TOKENS [CA_FILE]``.

``TOKENS`` is a JSON object with the secrets ``everything`` (may call every model) and ``other`` (may call only the
model ``other``, and so no route that names no model). Prints one line for each thing that was as it should be;
anything else ends with an assertion. With ``CA_FILE`` the channel is TLS.
"""

import json
import queue
import sys

import grpc


def main(address, tokens, ca_file=None):
    tokens = json.loads(tokens)
    allowed = [("authorization", f"Bearer {tokens['everything']}")]
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    if ca_file:
        with open(ca_file, "rb") as authority:
            credentials = grpc.ssl_channel_credentials(authority.read())
        channel = grpc.secure_channel(address, credentials, options=unlimited)
    else:
        channel = grpc.insecure_channel(address, options=unlimited)

    unary = {name: channel.unary_unary(f"/e2e.Model/{name}") for name in
             ["Infer", "Metadata", "Fail", "Acknowledge", "TimeLeft", "TooLate", "SawEnd"]}
    tokens_call = channel.unary_stream("/e2e.Model/Tokens")
    collect = channel.stream_unary("/e2e.Model/Collect")
    converse = channel.stream_stream("/e2e.Model/Converse")

    def failure(call, *arguments, **named):
        try:
            result = call(*arguments, **named)
            if not isinstance(result, bytes):
                result = list(result)
        except grpc.RpcError as error:
            return error
        raise AssertionError(f"let through: {result!r}")

    answer, call = unary["Infer"].with_call(b"question", metadata=allowed)
    assert answer == b"answer to question", answer
    assert dict(call.initial_metadata())["x-initial"] == "sent first", call.initial_metadata()
    trailing = dict(call.trailing_metadata())
    assert trailing["x-trailing"] == "sent last" and trailing["x-trailing-bin"] == b"\x00\xff\x80", trailing
    assert call.code() == grpc.StatusCode.OK
    print("unary")

    large = bytes(range(256)) * 4096 * 3
    assert unary["Infer"](large, metadata=allowed) == b"answer to " + large
    assert unary["Infer"](b"", metadata=allowed) == b"answer to "
    zipped = unary["Infer"](large, metadata=allowed, compression=grpc.Compression.Gzip)
    assert zipped == b"answer to " + large
    print("large messages")

    received = unary["Metadata"](b"", metadata=[*allowed, ("x-mine", "kept"), ("x-mine-bin", b"\x01\xfe"),
                                                ("x-credential-identifier", "forged")]).decode()
    assert tokens["everything"] not in received and "authorization" not in received, received
    assert "('x-mine', 'kept')" in received and "('x-mine-bin', '01fe')" in received, received
    assert "('x-consumer-username', 'everything')" in received and "forged" not in received, received
    print("metadata")

    error = failure(unary["Fail"], b"", metadata=allowed)
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
    assert error.details() == "100 % naïve:\nthe model is cold", error.details()
    assert dict(error.trailing_metadata())["x-trailing"] == "sent with the failure", error.trailing_metadata()
    print("status, message and trailers of a failure")

    stream = tokens_call(b"5", metadata=allowed)
    for number in range(5):
        assert next(stream) == b"token %d" % number
        unary["Acknowledge"](b"", metadata=allowed)
    assert next(stream, None) is None
    assert dict(stream.trailing_metadata())["x-tokens"] == "5", stream.trailing_metadata()
    print("server streaming, one message at a time")

    assert collect(iter([b"a" * 10, b"", b"b" * 1_000_000]), metadata=allowed) == b"3 messages, 1000010 bytes"
    print("client streaming")

    say = queue.Queue()
    conversation = converse(iter(say.get, None), metadata=allowed)
    for word in [b"one", b"two", b"three"]:
        say.put(word)
        assert next(conversation) == b"you said " + word
    say.put(None)
    assert next(conversation, None) is None
    assert dict(conversation.trailing_metadata())["x-trailing"] == "goodbye", conversation.trailing_metadata()
    print("bidirectional streaming, turn by turn")

    # A call without a deadline has, to the server, ages.
    assert int(unary["TimeLeft"](b"", metadata=allowed)) > 1_000_000_000
    left = int(unary["TimeLeft"](b"", metadata=allowed, timeout=3600))
    # An hour: grpcio writes `grpc-timeout` with few digits, rounded up.
    assert 3000 < left < 4200, left
    error = failure(unary["TooLate"], b"", metadata=allowed, timeout=0.5)
    assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert unary["SawEnd"](b"", metadata=allowed) == b"the server was told"
    print("deadlines")

    for call in [unary["Infer"], tokens_call]:
        error = failure(call, b"1")
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
        error = failure(call, b"1", metadata=[("authorization", "Bearer wrong")])
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
        error = failure(call, b"1", metadata=[("authorization", f"Bearer {tokens['other']}")])
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
        assert tokens["other"] not in error.details(), error
    for call in [collect, converse]:
        error = failure(call, iter([b"1"]))
        assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
    print("refusals")
    assert unary["Infer"](b"still here", metadata=allowed) == b"answer to still here"
    print("the connection outlives refusals")
    channel.close()


main(*sys.argv[1:])
