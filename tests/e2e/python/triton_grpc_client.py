"""Calls ``serving_server.py`` through the gate with Triton's official client: ``triton_grpc_client.py HOST:PORT TOKENS``.

``TOKENS`` is as for ``serving_client.py``. Prints one line for each thing that was as it should be; anything else ends
with an assertion.
"""

import json
import queue
import sys

import numpy
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException


def main(address, tokens):
    tokens = json.loads(tokens)
    host = [("grpc.default_authority", "grpc.models.example.com"), ("grpc.enable_http_proxy", 0)]
    client = InferenceServerClient(address, channel_args=host)

    def by(token):
        return {"authorization": f"Bearer {tokens[token]}"}

    def assert_refused(status, text, call, *arguments, **named):
        try:
            call(*arguments, **named)
        except InferenceServerException as refusal:
            assert refusal.status() == f"StatusCode.{status}", (refusal.status(), refusal.message())
            assert text in refusal.message(), refusal.message()
            return
        raise AssertionError(f"let through: {call.__name__} {arguments}")

    flower = InferInput("input-0", [1, 4], "FP64")
    flower.set_data_from_numpy(numpy.array([[5.0, 3.4, 1.5, 0.2]]))
    answers = queue.Queue()

    def converse():
        client.start_stream(lambda result, error: answers.put(error or result.get_response().model_name), headers=by("iris"))

    converse()
    for model in ["iris-v1", "iris-v2"]:
        client.async_stream_infer(model, [flower])
        assert answers.get() == model
    client.async_stream_infer("fraud-v1", [flower])
    error = answers.get()
    assert error.status() == "StatusCode.PERMISSION_DENIED", error
    assert error.message().startswith("The token is not for this model;"), error
    client.stop_stream()
    converse()
    client.async_stream_infer("iris-v1", [flower])
    assert answers.get() == "iris-v1"
    client.stop_stream()
    print("a stream, and another one after it was refused")

    about_one = [client.get_model_config, client.get_inference_statistics]
    for call in about_one:
        call("iris-v1", headers=by("iris"))
        assert_refused("PERMISSION_DENIED", "not for this model", call, "fraud-v1", headers=by("iris"))
        assert_refused("PERMISSION_DENIED", "lacks the group", call, "iris-v1", headers=by("manager"))
        assert_refused("UNAUTHENTICATED", "A token is needed", call, "iris-v1")
    # Without a name it tells of every model.
    client.get_inference_statistics(headers=by("caller"))
    assert_refused("PERMISSION_DENIED", "not for this model", client.get_inference_statistics, headers=by("iris"))
    print("configuration and statistics")

    for call, arguments in [
        (client.get_model_repository_index, ()),
        (client.get_trace_settings, ()),
        (client.update_trace_settings, ("iris-v1", {"trace_rate": "1"})),
        (client.get_log_settings, ()),
        (client.update_log_settings, ({"log_verbose_level": 1},)),
        (client.get_system_shared_memory_status, ()),
        (client.register_system_shared_memory, ("region", "/region", 64)),
        (client.unregister_system_shared_memory, ()),
        (client.get_cuda_shared_memory_status, ()),
        (client.register_cuda_shared_memory, ("region", b"aGFuZGxl", 0, 64)),
        (client.unregister_cuda_shared_memory, ()),
    ]:
        call(*arguments, headers=by("administrator"))
        assert_refused("PERMISSION_DENIED", "not for this model", call, *arguments, headers=by("manager"))
        assert_refused("PERMISSION_DENIED", "It is `model-management`.", call, *arguments, headers=by("caller"))
        assert_refused("UNAUTHENTICATED", "A token is needed", call, *arguments)
    print("what changes the server")

    for call in [client.load_model, client.unload_model]:
        call("iris-v1", headers=by("manager"))
        assert_refused("PERMISSION_DENIED", "not for this model", call, "fraud-v1", headers=by("manager"))
    print("the repository")

    client.infer("iris-v1", [flower], headers=by("iris"))
    assert_refused("UNIMPLEMENTED", "without compression", client.infer, "iris-v1", [flower] * 20, headers=by("iris"),
                   compression_algorithm="gzip")
    print("compression")
    client.close()


main(*sys.argv[1:])
