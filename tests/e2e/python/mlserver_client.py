"""Calls MLServer through the gate with Triton's official client: ``mlserver_client.py HOST:PORT TOKENS``.

``TOKENS`` is a JSON object with the secrets ``iris`` (may call ``iris*``), ``other`` (may call ``other``) and
``manager`` (may load and unload ``iris*``). Prints one line for each thing that was as it should be; anything else
ends with an assertion.
"""

import json
import sys

import numpy
from tritonclient.http import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

# One flower of each species, from the middle of its cloud.
FLOWERS = numpy.array([[5.0, 3.4, 1.5, 0.2], [5.9, 2.8, 4.3, 1.3], [6.6, 3.0, 5.6, 2.1]])
SPECIES = [0, 1, 2]

REFUSED = {"no token": "401", "no right": "403"}


def main(address, tokens):
    tokens = json.loads(tokens)
    client = InferenceServerClient(address)

    def as_holder_of(token):
        return {"headers": {"authorization": f"Bearer {tokens[token]}"}} if token else {}

    def infer(model, token):
        flowers = InferInput("input-0", FLOWERS.shape, "FP64")
        # MLServer reads tensors as JSON; Triton's binary form of them is not its own.
        flowers.set_data_from_numpy(FLOWERS, binary_data=False)
        return client.infer(model, [flowers], **as_holder_of(token))

    def is_ready(model):
        return client.is_model_ready(model, **as_holder_of("iris"))

    def refused(why, call, *arguments, **named):
        try:
            call(*arguments, **named)
        except InferenceServerException as refusal:
            assert refusal.status() == REFUSED[why], (refusal.status(), refusal.message())
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
