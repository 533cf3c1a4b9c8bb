"""A gRPC server with the services of TorchServe, TensorFlow Serving and Triton, by the ``.proto`` files of ``protos``.

It has every model there is, and answers with the name it read. What it has no code for it answers with an empty
message, which is right for every kind.

``Predictions`` of TorchServe does something by version: ``metadata`` answers with what came as metadata, ``time-left``
with the seconds until the deadline, ``never`` only when the caller went away, and ``saw-end`` when that has happened.
"""

import threading
from concurrent import futures

import grpc

kserve, kserve_services = grpc.protos_and_services("protos/kserve.proto")
torchserve, torchserve_services = grpc.protos_and_services("protos/torchserve_inference.proto")
management, management_services = grpc.protos_and_services("protos/torchserve_management.proto")
tensorflow, tensorflow_services = grpc.protos_and_services("protos/tensorflow_serving.proto")

late_call_ended = threading.Event()


class Kserve(kserve_services.GRPCInferenceServiceServicer):
    def ServerLive(self, request, context):
        return kserve.ServerLiveResponse(live=True)

    def ModelReady(self, request, context):
        return kserve.ModelReadyResponse(ready=True)

    def ModelInfer(self, request, context):
        return answer_of(request)

    def ModelStreamInfer(self, requests, context):
        for request in requests:
            yield kserve.ModelStreamInferResponse(infer_response=answer_of(request))

    def RepositoryModelLoad(self, request, context):
        return kserve.RepositoryModelLoadResponse()


def answer_of(request):
    return kserve.ModelInferResponse(model_name=request.model_name, id=request.id)


class TorchServe(torchserve_services.InferenceAPIsServiceServicer):
    def Ping(self, request, context):
        return torchserve.TorchServeHealthResponse(health="Healthy")

    def Predictions(self, request, context):
        if request.model_version == "metadata":
            return torchserve.PredictionResponse(prediction=repr(context.invocation_metadata()).encode())
        if request.model_version == "time-left":
            return torchserve.PredictionResponse(prediction=b"%d" % context.time_remaining())
        if request.model_version == "never":
            if not context.add_callback(late_call_ended.set):
                late_call_ended.set()
        if request.model_version in ("never", "saw-end"):
            late_call_ended.wait()
        length = sum(len(value) for value in request.input.values())
        return torchserve.PredictionResponse(prediction=b"%s: %d bytes" % (request.model_name.encode(), length))

    def StreamPredictions(self, request, context):
        for number in range(3):
            yield torchserve.PredictionResponse(prediction=b"%s %d" % (request.model_name.encode(), number))

    def StreamPredictions2(self, requests, context):
        for request in requests:
            yield torchserve.PredictionResponse(prediction=request.model_name.encode(), sequenceId=request.sequenceId)


class TorchServeManagement(management_services.ManagementAPIsServiceServicer):
    def DescribeModel(self, request, context):
        return management.ManagementResponse(msg=request.model_name)

    ScaleWorker = SetDefault = UnregisterModel = RegisterModel = DescribeModel

    def ListModels(self, request, context):
        return management.ManagementResponse(msg="all")


class Prediction(tensorflow_services.PredictionServiceServicer):
    def Predict(self, request, context):
        return tensorflow.PredictResponse(model_spec=request.model_spec)

    def Classify(self, request, context):
        return tensorflow.ClassificationResponse(model_spec=request.model_spec)

    def Regress(self, request, context):
        return tensorflow.RegressionResponse(model_spec=request.model_spec)

    def GetModelMetadata(self, request, context):
        return tensorflow.GetModelMetadataResponse(model_spec=request.model_spec)

    def MultiInference(self, request, context):
        results = [tensorflow.InferenceResult(model_spec=task.model_spec) for task in request.tasks]
        return tensorflow.MultiInferenceResponse(results=results)


class Models(tensorflow_services.ModelServiceServicer):
    def GetModelStatus(self, request, context):
        return tensorflow.GetModelStatusResponse(model_version_status=[tensorflow.ModelVersionStatus(version=1)])

    def HandleReloadConfigRequest(self, request, context):
        return tensorflow.ReloadConfigResponse()


class Anything(grpc.GenericRpcHandler):
    def service(self, call):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")


server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=[("grpc.max_receive_message_length", -1)])
kserve_services.add_GRPCInferenceServiceServicer_to_server(Kserve(), server)
torchserve_services.add_InferenceAPIsServiceServicer_to_server(TorchServe(), server)
management_services.add_ManagementAPIsServiceServicer_to_server(TorchServeManagement(), server)
tensorflow_services.add_PredictionServiceServicer_to_server(Prediction(), server)
tensorflow_services.add_ModelServiceServicer_to_server(Models(), server)
server.add_generic_rpc_handlers([Anything()])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"listening on 127.0.0.1:{port}")
server.wait_for_termination()
