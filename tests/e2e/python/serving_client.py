"""Calls ``serving_server.py`` by gRPC through the gate: ``serving_client.py SERVER HOST:PORT TOKENS``.

``SERVER`` is ``triton``, ``torchserve`` or ``tensorflow-serving``. ``TOKENS`` is a JSON object with the secrets
``iris`` (may call ``iris*``), ``manager`` (may manage ``iris*``), ``caller`` (may call every model) and
``administrator`` (may manage every model). Prints one line for each thing that was as it should be; anything else ends
with an assertion.
"""

import json
import os
import queue
import sys

import grpc

NO_TOKEN = (grpc.StatusCode.UNAUTHENTICATED, "A token is needed:")
BAD_TOKEN = (grpc.StatusCode.UNAUTHENTICATED, "The token is not valid:")
OTHER_MODEL = (grpc.StatusCode.PERMISSION_DENIED, "The token is not for this model;")
NO_GROUP = (grpc.StatusCode.PERMISSION_DENIED, "The token lacks the group that this call asks for;")
NO_MODEL = (grpc.StatusCode.PERMISSION_DENIED, "The request names no model,")
NO_ROUTE = (grpc.StatusCode.PERMISSION_DENIED, "No route of the namespace")
SEVERAL_MODELS = (grpc.StatusCode.INVALID_ARGUMENT, "The request names several models:")
COMPRESSED = (grpc.StatusCode.UNIMPLEMENTED, "The body names the model of this call, so it has to be sent without compression")
TOO_LARGE = (grpc.StatusCode.RESOURCE_EXHAUSTED, "The body is too large to be read")

MEGABYTE = 1 << 20


class Gate:
    """The gate as one user of it sees it."""

    def __init__(self, address, tokens):
        self.address = address
        self.tokens = json.loads(tokens)

    def channel(self, host):
        options = [("grpc.default_authority", host), ("grpc.enable_http_proxy", 0),
                   ("grpc.max_receive_message_length", -1)]
        return grpc.insecure_channel(self.address, options=options)

    def by(self, token):
        return [("authorization", f"Bearer {self.tokens[token]}")]

    def assert_refused(self, why, call, *arguments, **named):
        """The refusal's error. ``call`` may answer once or many times."""
        code, text = why
        try:
            answer = call(*arguments, **named)
            if isinstance(answer, grpc.Call):
                answer = list(answer)
        except grpc.RpcError as error:
            assert error.code() == code, error
            assert error.details().startswith(text), error.details()
            assert not any(secret in str(error) for secret in self.tokens.values()), error
            told = dict([*error.trailing_metadata(), *(error.initial_metadata() or [])])
            assert "faregate-reason" in told, told
            return error
        raise AssertionError(f"let through: {arguments}: {answer}")

    def assert_only_for(self, group, call, request, other):
        """Tries a unary call about one model with every token that there is."""
        right, wrong = ("iris", "manager") if group == "model-evaluation" else ("manager", "iris")
        self.assert_refused(NO_TOKEN, call, request)
        self.assert_refused(BAD_TOKEN, call, request, metadata=[("authorization", "Bearer wrong")])
        error = self.assert_refused(NO_GROUP, call, request, metadata=self.by(wrong))
        assert error.details().endswith(f"It is `{group}`."), error.details()
        self.assert_refused(OTHER_MODEL, call, other, metadata=self.by(right))
        return call(request, metadata=self.by(right))

    def assert_only_for_all_models(self, call, request):
        """Tries a unary call of management that is about no model in particular."""
        self.assert_refused(NO_TOKEN, call, request)
        self.assert_refused(NO_GROUP, call, request, metadata=self.by("caller"))
        self.assert_refused(OTHER_MODEL, call, request, metadata=self.by("manager"))
        return call(request, metadata=self.by("administrator"))


def torchserve(gate):
    messages, services = grpc.protos_and_services("protos/torchserve_inference.proto")
    management, management_services = grpc.protos_and_services("protos/torchserve_management.proto")
    from google.protobuf.empty_pb2 import Empty

    stub = services.InferenceAPIsServiceStub(gate.channel("grpc.models.example.com"))
    iris = gate.by("iris")

    def request(model, version="", sequence=None, **of):
        return messages.PredictionsRequest(model_name=model, model_version=version, input=of, sequenceId=sequence)

    assert stub.Ping(Empty()).health == "Healthy"
    print("Ping without a token")

    answer = gate.assert_only_for("model-evaluation", stub.Predictions, request("iris-v1"), request("fraud-v1"))
    assert answer.prediction == b"iris-v1: 0 bytes", answer
    gate.assert_refused(NO_MODEL, stub.Predictions, request(""), metadata=iris)
    print("Predictions")

    received = stub.Predictions(request("iris-v1", "metadata"), metadata=[
        *iris, ("x-mine", "kept"), ("x-mine-bin", b"\x01\xfe"), ("x-credential-identifier", "forged")])
    received = received.prediction.decode()
    assert "key='x-mine', value='kept'" in received and r"value=b'\x01\xfe'" in received, received
    assert "key='x-consumer-username', value='iris'" in received and "forged" not in received, received
    assert gate.tokens["iris"] not in received and "authorization" not in received, received
    print("metadata")

    left = int(stub.Predictions(request("iris-v1", "time-left"), metadata=iris, timeout=3600).prediction)
    assert 3000 < left < 4200, left
    try:
        stub.Predictions(request("iris-v1", "never"), metadata=iris, timeout=0.5)
        raise AssertionError("it answered")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert stub.Predictions(request("iris-v1", "saw-end"), metadata=iris).prediction == b"iris-v1: 0 bytes"
    print("deadlines")

    large = os.urandom(7 * MEGABYTE)
    assert stub.Predictions(request("iris-v1", image=large), metadata=iris).prediction == b"iris-v1: 7340032 bytes"
    # The gate reads a message whole before it lets it through: 8 MiB, unless `inspect_body_bytes` says otherwise.
    for size in [8 * MEGABYTE, 40 * MEGABYTE]:
        gate.assert_refused(TOO_LARGE, stub.Predictions, request("iris-v1", image=bytes(size)), metadata=iris)
    assert stub.Predictions(request("iris-v1"), metadata=iris).prediction == b"iris-v1: 0 bytes"
    print("large messages")

    compressible = request("iris-v1", text=b"a" * 10_000)
    gate.assert_refused(COMPRESSED, stub.Predictions, compressible, metadata=iris, compression=grpc.Compression.Gzip)
    gate.assert_refused(COMPRESSED, stub.StreamPredictions, compressible, metadata=iris, compression=grpc.Compression.Deflate)
    assert stub.Predictions(compressible, metadata=iris).prediction == b"iris-v1: 10000 bytes"
    print("compressed messages")

    answers = stub.StreamPredictions(request("iris-v1"), metadata=iris)
    assert [answer.prediction for answer in answers] == [b"iris-v1 0", b"iris-v1 1", b"iris-v1 2"]
    for why, metadata in [(NO_TOKEN, None), (NO_GROUP, gate.by("manager"))]:
        gate.assert_refused(why, stub.StreamPredictions, request("iris-v1"), metadata=metadata)
    gate.assert_refused(OTHER_MODEL, stub.StreamPredictions, request("fraud-v1"), metadata=iris)
    print("StreamPredictions")

    converse(gate, stub.StreamPredictions2, lambda model: request(model, sequence="1"), lambda answer: answer.prediction.decode())
    print("StreamPredictions2")

    # A port of its own, and a host of its own.
    manage = management_services.ManagementAPIsServiceStub(gate.channel("grpc-management.models.example.com"))
    for call, message in [
        (manage.DescribeModel, management.DescribeModelRequest),
        (manage.ScaleWorker, management.ScaleWorkerRequest),
        (manage.SetDefault, management.SetDefaultRequest),
        (manage.UnregisterModel, management.UnregisterModelRequest),
    ]:
        iris, fraud = message(model_name="iris-v1"), message(model_name="fraud-v1")
        assert gate.assert_only_for("model-management", call, iris, fraud).msg == "iris-v1"
    gate.assert_only_for_all_models(manage.ListModels, management.ListModelsRequest(limit=10))
    # The file may give the model any name, so a name in the request is none that the gate could go by.
    register = management.RegisterModelRequest(url="https://models.example.com/iris.mar", model_name="iris-v9")
    gate.assert_only_for_all_models(manage.RegisterModel, register)
    print("management")

    unknown = gate.channel("grpc.models.example.com").unary_unary("/org.pytorch.serve.grpc.inference.Other/Call")
    gate.assert_refused(NO_ROUTE, unknown, b"", metadata=gate.by("caller"))
    print("what no route is for")


def tensorflow_serving(gate):
    messages, services = grpc.protos_and_services("protos/tensorflow_serving.proto")
    channel = gate.channel("grpc.models.example.com")
    prediction = services.PredictionServiceStub(channel)
    models = services.ModelServiceStub(channel)
    iris = gate.by("iris")

    def spec(name):
        return messages.ModelSpec(name=name, version_label="stable", signature_name="serving_default")

    for call, message in [
        (prediction.Predict, messages.PredictRequest),
        (prediction.Classify, messages.ClassificationRequest),
        (prediction.Regress, messages.RegressionRequest),
        (prediction.GetModelMetadata, messages.GetModelMetadataRequest),
    ]:
        own, other = message(model_spec=spec("iris-v1")), message(model_spec=spec("fraud-v1"))
        assert gate.assert_only_for("model-evaluation", call, own, other).model_spec == spec("iris-v1")
        gate.assert_refused(NO_MODEL, call, message(), metadata=gate.by("caller"))
    print("PredictionService")

    def multi(*names):
        tasks = [messages.InferenceTask(model_spec=spec(name), method_name="tensorflow/serving/classify") for name in names]
        return messages.MultiInferenceRequest(tasks=tasks)

    call = prediction.MultiInference
    answer = gate.assert_only_for("model-evaluation", call, multi("iris-v1"), multi("fraud-v1", "fraud-v1"))
    assert [result.model_spec.name for result in answer.results] == ["iris-v1"], answer
    answer = call(multi("iris-v1", "iris-v1", "iris-v1"), metadata=iris)
    assert [result.model_spec.name for result in answer.results] == ["iris-v1"] * 3, answer
    for names in [("iris-v1", "fraud-v1"), ("fraud-v1", "iris-v1"), ("iris-v1", "iris-v1", "fraud-v1"), ("iris-v1", "iris-v2")]:
        gate.assert_refused(SEVERAL_MODELS, call, multi(*names), metadata=iris)
    gate.assert_refused(NO_MODEL, call, multi(), metadata=gate.by("caller"))
    unnamed = multi("iris-v1")
    unnamed.tasks.append(messages.InferenceTask(method_name="tensorflow/serving/regress"))
    gate.assert_refused(SEVERAL_MODELS, call, unnamed, metadata=iris)
    print("MultiInference")

    status = gate.assert_only_for(
        "model-evaluation", models.GetModelStatus, messages.GetModelStatusRequest(model_spec=spec("iris-v1")),
        messages.GetModelStatusRequest(model_spec=spec("fraud-v1")))
    assert status.model_version_status[0].version == 1, status
    listed = messages.ModelConfigList(config=[messages.ModelConfig(name="iris-v1", base_path="/models/iris")])
    reload = messages.ReloadConfigRequest(config=messages.ModelServerConfig(model_config_list=listed))
    gate.assert_only_for_all_models(models.HandleReloadConfigRequest, reload)
    print("ModelService")

    request = messages.PredictRequest(model_spec=spec("iris-v1"), output_filter=["a" * 1000] * 100)
    gate.assert_refused(COMPRESSED, prediction.Predict, request, metadata=iris, compression=grpc.Compression.Gzip)
    request = messages.PredictRequest(model_spec=spec("iris-v1"), output_filter=["a" * MEGABYTE] * 9)
    gate.assert_refused(TOO_LARGE, prediction.Predict, request, metadata=iris)
    print("compressed and large messages")


def triton(gate):
    messages, services = grpc.protos_and_services("protos/kserve.proto")
    stub = services.GRPCInferenceServiceStub(gate.channel("grpc.models.example.com"))

    def request(model):
        return messages.ModelInferRequest(model_name=model, id="1")

    assert stub.ServerLive(messages.ServerLiveRequest()).live
    ready = [messages.ModelReadyRequest(name=name) for name in ("iris-v1", "fraud-v1")]
    assert gate.assert_only_for("model-evaluation", stub.ModelReady, *ready).ready
    answer = gate.assert_only_for("model-evaluation", stub.ModelInfer, request("iris-v1"), request("fraud-v1"))
    assert answer.model_name == "iris-v1", answer
    # The name stands in field 2 here; field 1 is that of a repository.
    load = messages.RepositoryModelLoadRequest
    gate.assert_only_for("model-management", stub.RepositoryModelLoad, load(repository_name="models", model_name="iris-v1"),
                         load(repository_name="iris-v1", model_name="fraud-v1"))
    print("one answer")

    # The guide raises `inspect_body_bytes` to 32 MiB.
    for size, passes in [(20 * MEGABYTE, True), (32 * MEGABYTE, False)]:
        image = messages.ModelInferRequest(model_name="iris-v1", raw_input_contents=[b"i" * size])
        if passes:
            assert stub.ModelInfer(image, metadata=gate.by("iris")).model_name == "iris-v1"
        else:
            gate.assert_refused(TOO_LARGE, stub.ModelInfer, image, metadata=gate.by("iris"))
    print("large messages")

    converse(gate, stub.ModelStreamInfer, request, lambda answer: answer.infer_response.model_name)
    print("ModelStreamInfer")


def converse(gate, call, request, name_in):
    """A conversation may go on about every model of the token, and ends at the first of another."""
    iris = gate.by("iris")
    say = queue.Queue()
    answers = call(iter(say.get, None), metadata=iris)
    for model in ["iris-v1", "iris-v2", "iris-v1"]:
        say.put(request(model))
        assert name_in(next(answers)) == model
    say.put(None)
    assert next(answers, None) is None

    for second, why in [("fraud-v1", OTHER_MODEL), ("", NO_MODEL)]:
        say = queue.Queue()
        answers = call(iter(say.get, None), metadata=iris)
        say.put(request("iris-v1"))
        assert name_in(next(answers)) == "iris-v1"
        say.put(request(second))
        gate.assert_refused(why, lambda answers=answers: answers)
        say.put(None)

    gate.assert_refused(OTHER_MODEL, call, iter([request("fraud-v1")]), metadata=iris)
    gate.assert_refused(NO_TOKEN, call, iter([request("iris-v1")]))
    # All at once: what came before the second stands for itself, what comes after it goes nowhere.
    gate.assert_refused(OTHER_MODEL, call, iter([request(name) for name in ["iris-v1", "fraud-v1", "iris-v2"]]), metadata=iris)
    compressed = call(iter([request("iris-v1" + "1" * 200)]), metadata=iris, compression=grpc.Compression.Gzip)
    gate.assert_refused(COMPRESSED, lambda: compressed)


def main(server, address, tokens):
    calls = {"torchserve": torchserve, "tensorflow-serving": tensorflow_serving, "triton": triton}
    calls[server](Gate(address, tokens))


main(*sys.argv[1:])
