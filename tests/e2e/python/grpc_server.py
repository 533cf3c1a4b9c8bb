"""A gRPC server of plain bytes: every kind of call, with what a buffering proxy would break.

``/e2e.Model/Tokens`` sends message n + 1 only after a call of ``/e2e.Model/Acknowledge``.
"""

import queue
import threading
from concurrent import futures

import grpc

acknowledgements = queue.Queue()
late_call_ended = threading.Event()


def infer(request, context):
    context.send_initial_metadata((("x-initial", "sent first"),))
    context.set_trailing_metadata((("x-trailing", "sent last"), ("x-trailing-bin", b"\x00\xff\x80")))
    return b"answer to " + request


def metadata(request, context):
    received = [(name, value if isinstance(value, str) else value.hex()) for name, value in context.invocation_metadata()]
    return repr(received).encode()


def fail(request, context):
    context.set_trailing_metadata((("x-trailing", "sent with the failure"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "100 % naïve:\nthe model is cold")


def tokens(request, context):
    for number in range(int(request)):
        yield b"token %d" % number
        acknowledgements.get()
    context.set_trailing_metadata((("x-tokens", request.decode()),))


def acknowledge(request, context):
    acknowledgements.put(request)
    return b""


def collect(requests, context):
    count = length = 0
    for request in requests:
        count += 1
        length += len(request)
    return b"%d messages, %d bytes" % (count, length)


def converse(requests, context):
    for request in requests:
        yield b"you said " + request
    context.set_trailing_metadata((("x-trailing", "goodbye"),))


def time_left(request, context):
    return b"%d" % context.time_remaining()


def too_late(request, context):
    if not context.add_callback(late_call_ended.set):
        late_call_ended.set()
    late_call_ended.wait()
    return b"nobody reads this"


def saw_end(request, context):
    late_call_ended.wait()
    return b"the server was told"


SERVICE = {
    "Infer": grpc.unary_unary_rpc_method_handler(infer),
    "Metadata": grpc.unary_unary_rpc_method_handler(metadata),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Tokens": grpc.unary_stream_rpc_method_handler(tokens),
    "Acknowledge": grpc.unary_unary_rpc_method_handler(acknowledge),
    "Collect": grpc.stream_unary_rpc_method_handler(collect),
    "Converse": grpc.stream_stream_rpc_method_handler(converse),
    "TimeLeft": grpc.unary_unary_rpc_method_handler(time_left),
    "TooLate": grpc.unary_unary_rpc_method_handler(too_late),
    "SawEnd": grpc.unary_unary_rpc_method_handler(saw_end),
}

server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=[("grpc.max_receive_message_length", -1)])
server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("e2e.Model", SERVICE)])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"listening on 127.0.0.1:{port}")
server.wait_for_termination()
