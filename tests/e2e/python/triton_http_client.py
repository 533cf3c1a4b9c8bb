"""Calls ``serving_app.py`` through the gate with Triton's official HTTP client: ``triton_http_client.py HOST:PORT TOKENS``.

``TOKENS`` is as for ``serving_client.py``. Prints one line for each thing that was as it should be; anything else ends
with an assertion.
"""

import json
import sys

import numpy
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException


def main(address, tokens):
    tokens = json.loads(tokens)
    client = InferenceServerClient(address)

    def by(token):
        return {"Authorization": f"Bearer {tokens[token]}"}

    def assert_refused(status, text, call, *arguments, **named):
        try:
            call(*arguments, **named)
        except InferenceServerException as refusal:
            # The client shows `{"error": "..."}` as its message: no other form would be shown.
            assert refusal.status() == status, (refusal.status(), refusal.message())
            assert text in refusal.message(), refusal.message()
            assert not any(secret in refusal.message() for secret in tokens.values()), refusal.message()
            return
        raise AssertionError(f"let through: {call.__name__} {arguments}")

    flower = InferInput("input-0", [1, 4], "FP64")
    flower.set_data_from_numpy(numpy.array([[5.0, 3.4, 1.5, 0.2]]), binary_data=False)
    assert client.infer("iris-v1", [flower], headers=by("iris")).as_numpy("input-0").tolist() == [[5.0, 3.4, 1.5, 0.2]]
    assert_refused("403", "not for this model", client.infer, "fraud-v1", [flower], headers=by("iris"))
    assert_refused("401", "A token is needed", client.infer, "iris-v1", [flower])
    # What names the model is the path, so a compressed body is the server's affair.
    assert client.is_server_live()
    print("infer")

    for call in [client.get_model_config, client.get_inference_statistics, client.get_model_metadata]:
        told = call("iris-v1", headers=by("iris"))
        assert told["target"].startswith("/v2/models/iris-v1"), told
        assert_refused("403", "not for this model", call, "fraud-v1", headers=by("iris"))
        assert_refused("403", "lacks the group", call, "iris-v1", headers=by("manager"))
    # Statistics of all models at once.
    client.get_inference_statistics(headers=by("caller"))
    assert_refused("403", "not for this model", client.get_inference_statistics, headers=by("iris"))
    print("configuration and statistics")

    for call, arguments in [
        (client.get_trace_settings, ()),
        (client.update_trace_settings, (None, {"trace_rate": "1"})),
        (client.get_log_settings, ()),
        (client.update_log_settings, ({"log_verbose_level": 1},)),
        (client.get_system_shared_memory_status, ()),
        (client.register_system_shared_memory, ("region", "/region", 64)),
        (client.unregister_system_shared_memory, ("region",)),
        (client.get_cuda_shared_memory_status, ()),
        (client.register_cuda_shared_memory, ("region", b"aGFuZGxl", 0, 64)),
        (client.unregister_cuda_shared_memory, ()),
    ]:
        call(*arguments, headers=by("administrator"))
        assert_refused("403", "not for this model", call, *arguments, headers=by("manager"))
        assert_refused("403", "It is `model-management`.", call, *arguments, headers=by("caller"))
        assert_refused("401", "A token is needed", call, *arguments)
    print("what changes the server")

    for call in [client.load_model, client.unload_model]:
        call("iris-v1", headers=by("manager"))
        assert_refused("403", "not for this model", call, "fraud-v1", headers=by("manager"))
        assert_refused("403", "It is `model-management`.", call, "iris-v1", headers=by("iris"))
    client.update_trace_settings("iris-v1", {"trace_rate": "1"}, headers=by("manager"))
    assert_refused("403", "not for this model", client.update_trace_settings, "fraud-v1", {"trace_rate": "1"}, headers=by("manager"))
    print("the repository and one model's trace")
    client.close()


main(*sys.argv[1:])
