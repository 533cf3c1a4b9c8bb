"""Calls MLServer through the gate with Triton's official client: ``mlserver_client.py PROTOCOL HOST:PORT TOKENS``.

``PROTOCOL`` is ``http`` or ``grpc``; ``TOKENS`` is a JSON object with the secrets ``iris`` (may call ``iris*``),
``other`` (may call ``other``) and ``manager`` (may load and unload ``iris*``). Prints one line for each thing that was
as it should be; anything else ends with an assertion.
"""

import importlib
import json
import sys

import numpy
from tritonclient.utils import InferenceServerException

# One flower of each species, from the middle of its cloud.
FLOWERS = numpy.array([[5.0, 3.4, 1.5, 0.2], [5.9, 2.8, 4.3, 1.3], [6.6, 3.0, 5.6, 2.1]])
SPECIES = [0, 1, 2]

REFUSED = {
    "http": {"no token": "401", "no right": "403"},
    "grpc": {"no token": "StatusCode.UNAUTHENTICATED", "no right": "StatusCode.PERMISSION_DENIED"},
}


def main(protocol, address, tokens):
    triton = importlib.import_module(f"tritonclient.{protocol}")
    tokens = json.loads(tokens)
    client = triton.InferenceServerClient(address)

    def as_holder_of(token):
        return {"headers": {"authorization": f"Bearer {tokens[token]}"}} if token else {}

    def infer(model, token):
        flowers = triton.InferInput("input-0", FLOWERS.shape, "FP64")
        # MLServer reads tensors as JSON; Triton's binary form of them over HTTP is not its own.
        flowers.set_data_from_numpy(FLOWERS, **({"binary_data": False} if protocol == "http" else {}))
        return client.infer(model, [flowers], **as_holder_of(token))

    def is_ready(model):
        try:
            return client.is_model_ready(model, **as_holder_of("iris"))
        except InferenceServerException as error:
            # How MLServer says over gRPC that a model is not loaded.
            assert "not found" in error.message(), error
            return False

    def refused(why, call, *arguments, **named):
        try:
            call(*arguments, **named)
        except InferenceServerException as refusal:
            assert refusal.status() == REFUSED[protocol][why], (refusal.status(), refusal.message())
            return refusal.message()
        raise AssertionError(f"let through: {call.__name__} {arguments}")

    answer = infer("iris-v1", "iris")
    species = answer.as_numpy("predict").reshape(-1)
    assert species.tolist() == SPECIES, species
    print("inference")

    assert client.get_model_metadata("iris-v1", **as_holder_of("iris"))
    assert is_ready("iris-v2")
    print("metadata")

    refused("no token", infer, "iris-v1", None)
    print("no token")

    text = refused("no right", infer, "iris-v1", "other")
    assert tokens["other"] not in text, text
    refused("no right", infer, "fraud-v1", "iris")
    print("other resource")

    assert client.is_server_live()
    assert client.is_server_ready()
    print("health without a token")

    refused("no token", client.unload_model, "iris-v2")
    refused("no right", client.unload_model, "iris-v2", **as_holder_of("iris"))
    refused("no right", client.unload_model, "fraud-v1", **as_holder_of("manager"))
    assert is_ready("iris-v2")
    print("unload refused")

    client.unload_model("iris-v2", **as_holder_of("manager"))
    assert not is_ready("iris-v2")
    client.load_model("iris-v2", **as_holder_of("manager"))
    assert is_ready("iris-v2")
    print("unload and load")

    refused("no right", infer, "iris-v1", "manager")
    print("a manager does not infer")
    client.close()


main(*sys.argv[1:])
