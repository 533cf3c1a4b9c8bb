"""Calls ``openai_server.py`` through the gate with the official clients: ``openai_client.py HOST:PORT TOKENS``.

``TOKENS`` is a JSON object with the secrets ``echo`` (may call ``org/echo``), ``all`` (may call every model) and
``manager`` (may manage every model, and call none). The namespace has the default model ``org/echo``. Every request
that shall be refused carries the word ``unheard``. Prints one line for each thing that was as it should be; anything
else ends with an assertion.
"""

import gzip
import io
import json
import socket
import sys
import wave

import anthropic
import httpx2
import openai

SECONDS = 2
WORDS = [f"word-{number}" for number in range(20)]


def main(address, tokens):
    tokens = json.loads(tokens)
    # No proxy of the environment, and a refusal is not asked for again.
    direct = httpx2.Client(trust_env=False)

    def as_holder_of(token):
        return openai.OpenAI(
            base_url=f"http://{address}/v1", api_key=tokens.get(token, token), max_retries=0, http_client=direct
        )

    echo, everything, manager = map(as_holder_of, ["echo", "all", "manager"])

    def chat(client, model, text, **others):
        messages = [{"role": "user", "content": text}]
        return client.chat.completions.create(model=model, messages=messages, **others)

    def said(completion):
        return completion.choices[0].message.content

    assert said(chat(echo, "org/echo", "one two")) == "one two"
    assert said(chat(everything, "org/reverse", "one two")) == "two one"
    print("chat")

    with socket.create_server(("127.0.0.1", 0)) as acknowledged:
        stream = chat(echo, "org/echo", f"{' '.join(WORDS)} waiting at {where(acknowledged)}", stream=True)
        server, heard = None, []
        for event in stream:
            word = (event.choices[0].delta.content or "").strip()
            if not word:
                continue
            heard.append(word)
            server = server or acknowledged.accept()[0]
            server.sendall(b".")
        assert heard == WORDS, heard
        server.close()
    print("streamed chat")

    counted = echo.embeddings.create(model="org/echo", input=["abba", "zoo"])
    assert [len(item.embedding) for item in counted.data] == [26, 26]
    assert counted.data[0].embedding[:3] == [2.0, 2.0, 0.0], counted.data[0]
    backwards = everything.embeddings.create(model="org/reverse", input="abba", encoding_format="float")
    assert backwards.data[0].embedding[-3:] == [0.0, 2.0, 2.0], backwards.data[0]
    print("embeddings")

    def transcribe(client, model, name="speech.wav"):
        return client.audio.transcriptions.create(model=model, file=(name, recording()))

    assert transcribe(echo, "org/echo").text == f"{float(SECONDS)} seconds of sound"
    print("transcription")

    assert [model.id for model in echo.models.list()] == ["org/echo"]
    assert [model.id for model in everything.models.list()] == ["org/echo", "org/reverse"]
    print("the list of models")

    # As it stands the client writes `org%2Fecho`, which is a second way to write the path.
    refused(openai.BadRequestError, "bad_path", None, echo.models.retrieve, "org/echo")
    told = echo.get("/models/org/echo", cast_to=openai.types.Model)
    assert told.id == "org/echo"
    another = {"path": "/models/org/reverse", "cast_to": object}
    refused(openai.PermissionDeniedError, "resource_not_allowed", "not for this model", echo.get, **another)
    print("one model of the list")

    for call in [
        lambda: chat(echo, "org/reverse", "unheard"),
        lambda: chat(echo, "org/reverse", "unheard", stream=True),
        lambda: chat(echo, "org/ECHO", "unheard"),
        lambda: echo.completions.create(model="org/reverse", prompt="unheard"),
        lambda: echo.embeddings.create(model="org/reverse", input="unheard"),
        lambda: echo.responses.create(model="org/reverse", input="unheard"),
        lambda: transcribe(echo, "org/reverse", "unheard.wav"),
        lambda: echo.images.edit(model="org/reverse", image=b"unheard", prompt="unheard"),
        # Who is not told in the request is not known: an answer of before asks for every model.
        lambda: echo.responses.retrieve("unheard"),
    ]:
        refused(openai.PermissionDeniedError, "resource_not_allowed", "The token is not for this model", call)
    print("another model")

    lacks_group = openai.PermissionDeniedError, "group_not_allowed", "lacks the group"
    refused(*lacks_group, chat, manager, "org/echo", "unheard")
    load = {"path": "/load_lora_adapter", "body": {"lora_name": "unheard"}, "cast_to": object}
    refused(*lacks_group, everything.post, **load)
    print("another group")

    nobody = as_holder_of("fg_" + tokens["echo"][4:] + "0")
    not_valid = openai.AuthenticationError, "invalid_token", "The token is not valid"
    refused(*not_valid, chat, nobody, "org/echo", "unheard")
    needed = openai.AuthenticationError, "no_credential", "A token is needed"
    refused(*needed, chat, echo, "org/echo", "unheard", extra_headers={"Authorization": openai.Omit()})
    several = openai.BadRequestError, "ambiguous_credential", "several credentials"
    refused(*several, chat, echo, "org/echo", "unheard", extra_headers={"X-API-Key": tokens["all"]})
    print("no token")

    several = openai.BadRequestError, "model_conflict", "several models"
    refused(*several, chat, everything, "org/echo", "unheard", extra_query={"model": "org/reverse"})
    no_id = openai.BadRequestError, "bad_model", "not a model id"
    refused(*no_id, chat, everything, "org/../echo", "unheard")
    print("two models in one request")

    # The model server's own word, with whatever the gate would not know.
    absent = refused(openai.NotFoundError, None, None, chat, everything, "org/absent", "heard")
    assert absent.body == {"detail": "there is no model org/absent"}, absent.body
    print("a model that is not there")

    unnamed = {"messages": [{"role": "user", "content": "one two"}]}
    assert echo.post("/chat/completions", body=unnamed, cast_to=object)["choices"][0]["message"]["content"] == "one two"
    print("the default model")

    for path in ["metrics", "docs", "openapi.json", "version", "v1/realtime?model=org/echo"]:
        answer = direct.get(f"http://{address}/{path}", headers={"Authorization": f"Bearer {tokens['all']}"})
        assert (answer.status_code, answer.headers["faregate-reason"]) == (403, "route_denied"), (path, answer.text)
    refused(openai.PermissionDeniedError, "no_route", None, everything.files.list)
    assert direct.get(f"http://{address}/health").status_code == 200
    print("what is closed and what is open")

    claude = {"base_url": f"http://{address}", "max_retries": 0, "http_client": direct}
    not_for_it = anthropic.PermissionDeniedError, "resource_not_allowed", "The token is not for this model"

    def message(client, model, text):
        return client.messages.create(model=model, max_tokens=9, messages=[{"role": "user", "content": text}])

    # `api_key` goes as `X-API-Key`, `auth_token` as a bearer.
    for credential in ["api_key", "auth_token"]:
        client = anthropic.Anthropic(**{"api_key": None, credential: tokens["echo"]}, **claude)
        assert message(client, "org/echo", "one two").content[0].text == "one two"
        refused(*not_for_it, message, client, "org/reverse", "unheard")
    print("Anthropic's client")

    odd_bodies(direct, f"http://{address}/v1", tokens["echo"])
    print("odd bodies")


def where(listener):
    host, port = listener.getsockname()
    return f"{host}:{port}"


def recording():
    """Silence, as a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(2 * 8000 * SECONDS))
    return file.getvalue()


def refused(kind, reason, text, call, *arguments, **named):
    """The error that the client raises, of this kind, for this reason and with this text in it."""
    try:
        call(*arguments, **named)
    except kind as refusal:
        told = refusal.response.headers.get("faregate-reason")
        assert told == reason, (told, refusal.body)
        assert text is None or text in str(refusal), str(refusal)
        assert "fg_" not in refusal.response.text, refusal.response.text
        return refusal
    raise AssertionError(f"let through: {call} {arguments} {named}")


def odd_bodies(direct, base_url, token):
    """What no client would write, and what some clients may."""
    credential = {"Authorization": f"Bearer {token}"}
    as_json = {"Content-Type": "application/json"}
    messages = '"messages":[{"role":"user","content":"unheard"}]'
    heard = messages.replace("unheard", "one two")
    echo = '{"model":"org/echo",' + heard + "}"

    def post(path, headers, **content):
        return direct.post(f"{base_url}/{path}", headers={**credential, **headers}, **content)

    for body, reason in [
        ('{"model":"org/echo","model":"org/reverse",' + messages + "}", "model_conflict"),
        ('{"model":"org/reverse","model":"org/echo",' + messages + "}", "model_conflict"),
        ('{"model":"org/echo","model":"org/echo",' + messages + "}", "model_conflict"),
        ('{"model":"org/echo",' + messages + ',"mod\\u0065l":"org/reverse"}', "model_conflict"),
        ('{"mod\\u0065l":"org/reverse",' + messages + "}", "resource_not_allowed"),
        ('{"model":"org\\/reverse",' + messages + "}", "resource_not_allowed"),
        ('{"model":["org/echo"],' + messages + "}", "bad_body"),
        ('{"model":7,' + messages + "}", "bad_body"),
        ('[{"model":"org/echo",' + messages + "}]", "bad_body"),
        (echo.replace("one two", "unheard") + '{"model":"org/reverse"}', "bad_body"),
        (echo.replace("one two", "unheard")[:-1], "bad_body"),
        ('{"model":"org/echo ",' + messages + "}", "bad_model"),
        ('{"model":"org/echo\\u0000",' + messages + "}", "bad_model"),
        (('{"model":"org/reverse",' + messages + "}").encode("utf-16"), "bad_body"),
        (b'{"model":"org/echo\xff",' + messages.encode() + b"}", "bad_body"),
        ("unheard", "bad_body"),
    ]:
        answer = post("chat/completions", as_json, content=body)
        told = answer.headers.get("faregate-reason")
        assert told == reason, (body, told, answer.status_code, answer.text)
        assert answer.json()["error"]["code"] == reason, answer.text

    for headers, content in [
        ({**as_json, "Content-Encoding": "gzip"}, gzip.compress(b'{"model":"org/reverse"}')),
        ({"Content-Type": "application/x-www-form-urlencoded"}, b"model=org/echo&prompt=unheard"),
    ]:
        answer = post("chat/completions", headers, content=content)
        told = answer.headers.get("faregate-reason")
        assert told == "unsupported_encoding", (headers, told, answer.status_code, answer.text)

    file = ("file", ("unheard.wav", recording(), "audio/wav"))

    def field(value):
        return ("model", (None, value))

    for parts, reason in [
        ([field("org/echo"), file, field("org/reverse")], "model_conflict"),
        ([field("org/reverse"), file, field("org/echo")], "model_conflict"),
        ([file, field("org/reverse")], "resource_not_allowed"),
        ([("model", ("unheard.txt", b"org/echo", "text/plain")), file], "bad_body"),
    ]:
        answer = post("audio/transcriptions", {}, files=parts)
        told = answer.headers.get("faregate-reason")
        assert told == reason, (parts, told, answer.status_code, answer.text)

    # And these are in order: no length told in advance, the model last, a key that is written in another way.
    for body in [
        iter([echo[:5].encode(), echo[5:30].encode(), echo[30:].encode()]),
        "{" + heard + ' , "model" : "org/echo" }',
        '{"mod\\u0065l":"org\\/echo",' + heard + "}",
    ]:
        answer = post("chat/completions", as_json, content=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"] == "one two", answer.text
    speech = ("file", ("speech.wav", recording(), "audio/wav"))
    answer = post("audio/transcriptions", {}, files=[speech, field("org/echo")])
    assert answer.status_code == 200, answer.text


main(*sys.argv[1:])
