"""Calls MLServer by gRPC through the gate with Triton's official client: ``mlserver_grpc_client.py HOST:PORT TOKENS``.

``TOKENS`` is a JSON object with the secrets ``iris`` (may call ``iris*``), ``other`` (may call ``other``), ``manager``
(may load and unload ``iris*``) and ``administrator`` (may load and unload every model). Prints one line for each thing
that was as it should be; anything else ends with an assertion.
"""

import json
import sys

import numpy
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

# One flower of each species, from the middle of its cloud.
FLOWERS = numpy.array([[5.0, 3.4, 1.5, 0.2], [5.9, 2.8, 4.3, 1.3], [6.6, 3.0, 5.6, 2.1]])
SPECIES = [0, 1, 2]

NO_TOKEN = ("UNAUTHENTICATED", "A token is needed: send it as `Authorization: Bearer …`.")
BAD_TOKEN = ("UNAUTHENTICATED", "The token is not valid:")
OTHER_MODEL = ("PERMISSION_DENIED", "The token is not for this model;")
NO_GROUP = ("PERMISSION_DENIED", "The token lacks the group that this call asks for;")


def main(address, tokens):
    tokens = json.loads(tokens)
    # The host by which the gate knows that gRPC is meant. Where it has a name in the DNS, the client just connects to it.
    host = [("grpc.default_authority", "grpc.models.example.com"), ("grpc.enable_http_proxy", 0)]
    client = InferenceServerClient(address, channel_args=host)

    def as_holder_of(token):
        return {"headers": {"authorization": f"Bearer {tokens[token]}"}} if token else {}

    def infer(model, token):
        flowers = InferInput("input-0", FLOWERS.shape, "FP64")
        flowers.set_data_from_numpy(FLOWERS)
        return client.infer(model, [flowers], **as_holder_of(token))

    def refused(why, call, *arguments, **named):
        status, text = why
        try:
            call(*arguments, **named)
        except InferenceServerException as refusal:
            assert refusal.status() == f"StatusCode.{status}", (refusal.status(), refusal.message())
            assert refusal.message().startswith(text), refusal.message()
            assert not any(secret in refusal.message() for secret in tokens.values()), refusal.message()
            return refusal.message()
        raise AssertionError(f"let through: {call.__name__} {arguments}")

    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata().name == "mlserver"
    print("the server without a token")

    assert infer("iris-v1", "iris").as_numpy("predict").reshape(-1).tolist() == SPECIES
    refused(NO_TOKEN, infer, "iris-v1", None)
    refused(OTHER_MODEL, infer, "iris-v1", "other")
    refused(OTHER_MODEL, infer, "fraud-v1", "iris")
    refused(BAD_TOKEN, client.infer, "iris-v1", [], headers={"authorization": "Bearer wrong"})
    print("ModelInfer")

    # Where only a key can be set.
    assert client.is_model_ready("iris-v1", headers={"x-api-key": tokens["iris"]})
    assert client.get_model_metadata("iris-v1", **as_holder_of("iris")).name == "iris-v1"
    for call in [client.is_model_ready, client.get_model_metadata]:
        refused(NO_TOKEN, call, "iris-v1")
        refused(OTHER_MODEL, call, "fraud-v1", **as_holder_of("iris"))
    print("ModelReady and ModelMetadata")

    def names(token):
        index = client.get_model_repository_index(**as_holder_of(token))
        return sorted(model.name for model in index.models)

    assert names("administrator") == ["fraud-v1", "iris-v1", "iris-v2"]
    # An answer in gRPC is not cut down, so this one is for those who may see all of it.
    refused(OTHER_MODEL, names, "manager")
    refused(NO_GROUP, names, "iris")
    refused(NO_TOKEN, names, None)
    print("RepositoryIndex")

    for call in [client.unload_model, client.load_model]:
        refused(NO_TOKEN, call, "iris-v2")
        text = refused(NO_GROUP, call, "iris-v2", **as_holder_of("iris"))
        assert text.endswith("It is `model-management`."), text
        refused(OTHER_MODEL, call, "fraud-v1", **as_holder_of("manager"))
    assert infer("iris-v2", "iris") is not None
    client.unload_model("iris-v2", **as_holder_of("manager"))
    try:
        infer("iris-v2", "iris")
        raise AssertionError("it was not unloaded")
    except InferenceServerException as refusal:
        # MLServer's own words pass unchanged.
        assert refusal.status() == "StatusCode.NOT_FOUND", (refusal.status(), refusal.message())
        assert "iris-v2" in refusal.message(), refusal.message()
    client.load_model("iris-v2", **as_holder_of("manager"))
    assert infer("iris-v2", "iris") is not None
    refused(NO_GROUP, infer, "iris-v1", "manager")
    print("RepositoryModelLoad and RepositoryModelUnload")
    client.close()


main(*sys.argv[1:])
