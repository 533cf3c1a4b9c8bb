"""Streams to MLServer through the gate: ``mlserver_stream_client.py HOST:PORT TOKENS``.

By MLServer's own messages, which are not Triton's here: it answers with a plain ``ModelInferResponse``. ``TOKENS`` is a
JSON object with the secret ``iris`` (may call ``iris*``). Prints one line for each thing that was as it should be;
anything else ends with an assertion.
"""

import json
import queue
import sys

import grpc
from mlserver.grpc.dataplane_pb2 import InferTensorContents, ModelInferRequest
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
from mlserver.grpc.model_repository_pb2 import RepositoryModelLoadRequest
from mlserver.grpc.model_repository_pb2_grpc import ModelRepositoryServiceStub


def request(model):
    flower = InferTensorContents(fp64_contents=[5.0, 3.4, 1.5, 0.2])
    tensor = ModelInferRequest.InferInputTensor(name="input-0", datatype="FP64", shape=[1, 4], contents=flower)
    return ModelInferRequest(model_name=model, inputs=[tensor])


def code_of(call):
    try:
        list(call)
    except grpc.RpcError as error:
        return error.code()
    raise AssertionError("let through")


def main(address, tokens):
    allowed = [("authorization", f"Bearer {json.loads(tokens)['iris']}")]
    channel = grpc.insecure_channel(
        address, options=[("grpc.default_authority", "grpc.models.example.com"), ("grpc.enable_http_proxy", 0)])
    stub = GRPCInferenceServiceStub(channel)

    say = queue.Queue()
    answers = stub.ModelStreamInfer(iter(say.get, None), metadata=allowed)
    say.put(request("iris-v1"))
    answer = next(answers)
    assert answer.model_name == "iris-v1" and list(answer.outputs[0].contents.int64_contents) == [0], answer
    say.put(None)
    assert next(answers, None) is None
    print("ModelStreamInfer")

    assert code_of(stub.ModelStreamInfer(iter([request("iris-v1")]))) == grpc.StatusCode.UNAUTHENTICATED
    refused = stub.ModelStreamInfer(iter([request("fraud-v1")]), metadata=allowed)
    assert code_of(refused) == grpc.StatusCode.PERMISSION_DENIED
    assert refused.details().startswith("The token is not for this model;"), refused.details()
    print("ModelStreamInfer refused")

    # MLServer has the repository as a service of its own, too.
    repository = ModelRepositoryServiceStub(channel)
    try:
        repository.RepositoryModelUnload(RepositoryModelLoadRequest(model_name="iris-v1"), metadata=allowed)
        raise AssertionError("let through")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
        assert error.details().endswith("It is `model-management`."), error.details()
    print("the other name of the repository")
    channel.close()


main(*sys.argv[1:])
