"""The stub model: an OpenAI-compatible server that needs no key and no network, so that a first chat answers.

It says back what it was told, word by word, and where the prompt holds ``RUN: command`` and a bash tool is offered it
asks for that command once and then says what came of it. ``python -m docker.agent.model --host H --port P`` prints the
address; in a test ``with StubModel() as model`` does. Standard library only. Shapes: OpenAI API reference, "Chat
Completions" and its streaming chunks.
"""

import argparse
import hmac
import json
import secrets
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Any, Self

MODEL = "stub-1"
BODY_LIMIT = 32 * 1024 * 1024  # bytes; a prompt carries the whole conversation
ANSWER_LIMIT = 4000  # characters of the prompt that are said back
KEPT_REQUESTS = 1000

Json = dict[str, Any]


class StubModel:
    """A running stub. ``requests`` holds the bodies it was sent, newest last, for tests that count calls."""

    def __init__(
        self, host: str = "127.0.0.1", port: int = 0, *, api_key: str | None = None, word_seconds: float = 0.0
    ) -> None:
        self.requests: deque[Json] = deque(maxlen=KEPT_REQUESTS)
        self.api_key = api_key
        self.word_seconds = word_seconds
        self._address = (host, port)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def base_url(self) -> str:
        """What an OpenAI client takes as its base: ``http://HOST:PORT/v1``."""
        if self._server is None:
            raise RuntimeError("the stub model is not started")
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/v1"

    def start(self) -> None:
        """Listen and serve from a thread. Raises OSError when the port is taken."""
        self._server = _Server(self._address, self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="stub-model", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; answers under way are cut when the process ends. Stopping twice is success."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], model: StubModel) -> None:
        super().__init__(address, _Handler)
        self.model = model

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves in mid-answer is everyday; anything else is said on stderr."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # passed on as it came


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 60.0

    def log_message(self, format: str, *args: object) -> None:
        """Prompts and keys are nobody's business: nothing is logged."""

    def do_GET(self) -> None:
        if self._admitted() and self.path == "/v1/models":
            models = [{"id": MODEL, "object": "model", "created": 1, "owned_by": "stub"}]
            self._send(200, {"object": "list", "data": models})
        elif self._admitted():
            self._send(404, problem(f"There is nothing at {self.path}.", "not_found"))
        else:
            self._refuse_key()

    def do_POST(self) -> None:
        request = self._body()
        if not self._admitted():
            self._refuse_key()
        elif self.path != "/v1/chat/completions":
            self._send(404, problem(f"There is nothing at {self.path}.", "not_found"))
        elif request is None or not isinstance(request.get("messages"), list):
            self._send(400, problem("The body is not a chat completion request.", "invalid_body"))
        else:
            self.server.model.requests.append(request)
            self._complete(request)

    def _complete(self, request: Json) -> None:
        answer = decide(request)
        if not request.get("stream"):
            return self._send(200, completion(request, answer))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for chunk in chunks(request, answer):
            self._send_chunk(b"data: %s\n\n" % json.dumps(chunk).encode())
            time.sleep(self.server.model.word_seconds)
        self._send_chunk(b"data: [DONE]\n\n")
        return self._send_chunk(b"")

    def _send_chunk(self, piece: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def _body(self) -> Json | None:
        """The body as an object; None when it is none, or longer than we read."""
        size = int(self.headers.get("content-length") or 0)
        if size > BODY_LIMIT:
            self.close_connection = True
            return None
        try:
            value = json.loads(self.rfile.read(size))
        except ValueError:
            return None
        return value if isinstance(value, dict) else None

    def _admitted(self) -> bool:
        key = self.server.model.api_key
        given = self.headers.get("authorization", "")
        return key is None or hmac.compare_digest(given.encode(), f"Bearer {key}".encode())

    def _refuse_key(self) -> None:
        self._send(401, problem("The API key is not the one this server was given.", "invalid_api_key"))

    def _send(self, status: int, value: Json) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def problem(message: str, code: str) -> Json:
    return {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": code}}


def text_of(message: Json) -> str:
    """A message's content is a string or a list of parts."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def decide(request: Json) -> Json:
    """The assistant's message: a tool call, what came of one, or what the user said."""
    spoken = [message for message in request["messages"] if message.get("role") not in ("system", "developer")]
    last = spoken[-1] if spoken else {}
    if last.get("role") == "tool":
        return {"role": "assistant", "content": f"The command said: {text_of(last)[:ANSWER_LIMIT].strip()}"}
    said = text_of(last)
    offered = [tool.get("function", {}).get("name") for tool in request.get("tools") or []]
    _, asked, rest = said.partition("RUN:")
    if asked and "bash" in offered:
        arguments = {"command": rest.split("\n")[0].strip().strip('"'), "description": "Runs what was asked"}
        function = {"name": "bash", "arguments": json.dumps(arguments)}
        call = {"id": f"call_{secrets.token_hex(8)}", "type": "function", "function": function}
        return {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"role": "assistant", "content": f"You said: {said[:ANSWER_LIMIT]}"}


def finish(answer: Json) -> str:
    return "tool_calls" if answer.get("tool_calls") else "stop"


def usage(request: Json, answer: Json) -> Json:
    """Counted in words: a stub has no tokens."""
    asked = sum(len(text_of(message).split()) for message in request["messages"])
    answered = len(text_of(answer).split()) or 1
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


def completion(request: Json, answer: Json) -> Json:
    """The whole answer at once."""
    choice = {"index": 0, "message": answer, "finish_reason": finish(answer), "logprobs": None}
    return header(request, "chat.completion") | {"choices": [choice], "usage": usage(request, answer)}


def header(request: Json, kind: str) -> Json:
    name = f"chatcmpl-{secrets.token_hex(12)}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": request.get("model", MODEL)}


def chunks(request: Json, answer: Json) -> Iterator[Json]:
    """The same answer in pieces: role, words or tool call, finish, then the usage in a chunk of its own when asked."""
    common = header(request, "chat.completion.chunk")
    for delta in deltas(answer):
        yield common | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    yield common | {"choices": [{"index": 0, "delta": {}, "finish_reason": finish(answer)}]}
    if (request.get("stream_options") or {}).get("include_usage"):
        yield common | {"choices": [], "usage": usage(request, answer)}


def deltas(answer: Json) -> Iterator[Json]:
    calls = answer.get("tool_calls") or []
    yield {"role": "assistant", "content": None if calls else ""}
    yield from ({"tool_calls": [{"index": index, **call}]} for index, call in enumerate(calls))
    words = text_of(answer).split(" ")
    yield from ({"content": word if index == 0 else f" {word}"} for index, word in enumerate(words) if word or index)


def main() -> None:
    """Print the address, then serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m docker.agent.model", description="An OpenAI-compatible stub.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-key", help="refuse requests without this bearer key")
    parser.add_argument("--word-seconds", type=float, default=0.02, help="pause between two words of a stream")
    options = parser.parse_args()
    model = StubModel(options.host, options.port, api_key=options.api_key, word_seconds=options.word_seconds)
    model.start()
    print(model.base_url, flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        model.stop()


if __name__ == "__main__":
    main()
