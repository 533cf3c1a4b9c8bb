"""Two models behind OpenAI's API, served by LitServe: ``openai_server.py [ECHO REVERSE]``.

The first, ``org/echo`` unless it is told another name, says what it is told; the second, ``org/reverse``, says it
backwards.

Chat and embeddings are LitServe's own; lists, recordings, Anthropic's messages and the realtime connection are routes
beside them. A chat whose message ends with ``waiting at HOST:PORT`` connects there, and says each further word only
after a byte came from there: who held back a single event would wait for ever.
"""

import ctypes
import os
import signal
import socket
import sys
import wave

import litserve
import uvicorn
from fastapi import File, Form, HTTPException, Request, UploadFile, WebSocket
from litserve.specs.openai import ChatCompletionRequest
from litserve.specs.openai_embedding import EmbeddingRequest

MODELS = ECHO, REVERSE = sys.argv[1:] or ["org/echo", "org/reverse"]
WAITING = "waiting at "


def answer(model, text):
    """What the model says, word by word."""
    # A server that serves a model to those who name none: the first.
    if (model or ECHO) not in MODELS:
        raise HTTPException(404, f"there is no model {model}")
    words = text.split()
    return words[::-1] if model == REVERSE else words


class Chat(litserve.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request: ChatCompletionRequest):
        return request

    def predict(self, request):
        text, _, waiting_at = request.messages[-1].content.partition(WAITING)
        first, *others = answer(request.model, text)
        yield first
        if not waiting_at:
            yield from (f" {word}" for word in others)
            return
        host, port = waiting_at.rsplit(":", 1)
        with socket.create_connection((host, int(port))) as reader:
            for word in others:
                if not reader.recv(1):
                    return
                yield f" {word}"


class Embeddings(litserve.LitAPI):
    """How often a text has each letter of the alphabet; the second model counts from its end."""

    def setup(self, device):
        pass

    def decode_request(self, request: EmbeddingRequest):
        return request

    def predict(self, request):
        texts = [request.input] if isinstance(request.input, str) else request.input
        counts = [[float(text.count(letter)) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts]
        return [answer(request.model, " ".join(map(str, count))) for count in counts]

    def encode_response(self, output):
        return {"embeddings": [[float(count) for count in counts] for counts in output]}


def model_card(model):
    if model not in MODELS:
        raise HTTPException(404, f"there is no model {model}")
    return {"id": model, "object": "model", "created": 0, "owned_by": "org"}


def add_routes(app):
    @app.get("/v1/models")
    def models():
        return {"object": "list", "data": [model_card(model) for model in MODELS]}

    @app.get("/v1/models/{model:path}")
    def model(model: str):
        return model_card(model)

    @app.post("/v1/audio/transcriptions")
    def transcription(file: UploadFile = File(), model: str = Form("")):
        with wave.open(file.file, "rb") as recording:
            seconds = recording.getnframes() / recording.getframerate()
        return {"text": " ".join(answer(model, f"{seconds} seconds of sound"))}

    @app.post("/v1/messages")
    async def message(request: Request):
        asked = await request.json()
        text = " ".join(answer(asked["model"], asked["messages"][-1]["content"]))
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": asked["model"],
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }

    @app.websocket("/v1/realtime")
    async def realtime(connection: WebSocket, model: str = ""):
        await connection.accept(subprotocol="realtime" if "realtime" in connection["subprotocols"] else None)
        received = {name.decode(): value.decode() for name, value in connection["headers"]}
        await connection.send_json({"type": "session.created", "session": {"model": model}, "received": received})
        async for event in connection.iter_json():
            text = " ".join(answer(model, event["instructions"]))
            await connection.send_json({"type": "response.output_text.done", "text": text})


def die_with_parent():
    """Its workers end with LitServe also where that was killed and could end none of them."""
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def bind_anywhere(_config):
    """LitServe wants to be told a port; here the operating system chooses one."""
    listener = socket.create_server(("127.0.0.1", 0))
    host, port = listener.getsockname()
    print(f"listening on {host}:{port}")
    return listener


if __name__ == "__mp_main__":
    die_with_parent()

if __name__ == "__main__":
    os.register_at_fork(after_in_child=die_with_parent)
    uvicorn.Config.bind_socket = bind_anywhere
    server = litserve.LitServer(
        [Chat(spec=litserve.OpenAISpec()), Embeddings(spec=litserve.OpenAIEmbeddingSpec())],
        accelerator="cpu",
        timeout=False,
    )
    add_routes(server.app)
    server.run(
        host="127.0.0.1",
        num_api_servers=1,
        # A thread of this process: one process less, and `app` keeps the routes added above.
        api_server_worker_type="thread",
        generate_client_file=False,
        log_level="warning",
    )
