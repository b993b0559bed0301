"""The stub model: what an OpenAI client gets from it, whole and in pieces."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from docker.agent.model import StubModel

BASH = {"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}


@pytest.fixture
def model() -> Iterator[StubModel]:
    with StubModel() as running:
        yield running


def ask(model: StubModel, *messages: dict[str, Any], **more: object) -> httpx.Response:
    body = {"model": "stub-1", "messages": list(messages), **more}
    return httpx.post(f"{model.base_url}/chat/completions", json=body, timeout=10)


def user(content: object) -> dict[str, Any]:
    return {"role": "user", "content": content}


def streamed(answer: httpx.Response) -> list[dict[str, Any]]:
    """The chunks of an event stream that ends as the API says."""
    *lines, last = [line for line in answer.text.split("\n\n") if line]
    assert last == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_it_says_back_what_the_user_said_last(model: StubModel) -> None:
    messages = ({"role": "system", "content": "be kind"}, user("first"), {"role": "assistant", "content": "x"})
    answer = ask(model, *messages, user([{"type": "text", "text": "good "}, {"type": "text", "text": "day"}])).json()
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "You said: good day"}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 6, "completion_tokens": 4, "total_tokens": 10}


def test_a_stream_comes_word_by_word(model: StubModel) -> None:
    """Joined, the pieces are the answer: two spaces and line ends are kept."""
    answer = ask(model, user("good  day\nto you"), stream=True, stream_options={"include_usage": True})
    assert answer.headers["content-type"] == "text/event-stream"
    *chunks, finish, usage = streamed(answer)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert [delta["content"] for delta in deltas[1:]] == ["You", " said:", " good", " ", " day\nto", " you"]
    assert (finish["choices"][0]["delta"], finish["choices"][0]["finish_reason"]) == ({}, "stop")
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 10
    assert len({chunk["id"] for chunk in [*chunks, finish, usage]}) == 1


def test_usage_is_streamed_only_when_asked_for(model: StubModel) -> None:
    assert all(chunk["choices"] for chunk in streamed(ask(model, user("x"), stream=True)))


def test_a_command_is_asked_for_once_and_its_output_is_told(model: StubModel) -> None:
    """The agent runs it and comes back with a message of role tool."""
    prompt = user('please RUN: "echo hi"\nthank you')
    *_, asked, finish = streamed(ask(model, prompt, tools=[BASH], stream=True))
    (call,) = asked["choices"][0]["delta"]["tool_calls"]
    assert (call["index"], call["type"], call["function"]["name"]) == (0, "function", "bash")
    assert json.loads(call["function"]["arguments"])["command"] == "echo hi"
    assert finish["choices"][0]["finish_reason"] == "tool_calls"
    result = {"role": "tool", "tool_call_id": call["id"], "content": "hi\n"}
    told = ask(model, prompt, {"role": "assistant", "content": None, "tool_calls": [call]}, result, tools=[BASH]).json()
    assert told["choices"][0]["message"]["content"] == "The command said: hi"


def test_without_the_tool_a_command_is_only_said_back(model: StubModel) -> None:
    answer = ask(model, user("RUN: ls")).json()["choices"][0]
    assert (answer["message"]["content"], answer["finish_reason"]) == ("You said: RUN: ls", "stop")


def test_it_lists_its_model(model: StubModel) -> None:
    assert [one["id"] for one in httpx.get(f"{model.base_url}/models").json()["data"]] == ["stub-1"]


def test_with_a_key_every_request_wants_it() -> None:
    with StubModel(api_key="right") as model:
        for key in ("", "Bearer wrong", "right"):
            headers = {"authorization": key}
            refused = httpx.get(f"{model.base_url}/models", headers=headers)
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            assert httpx.post(f"{model.base_url}/chat/completions", headers=headers, json={}).status_code == 401
        assert httpx.get(f"{model.base_url}/models", headers={"authorization": "Bearer right"}).status_code == 200
        assert list(model.requests) == [], "what was refused does not count"


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"messages": 1}'])
def test_what_is_no_request_is_a_400(model: StubModel, body: bytes) -> None:
    answer = httpx.post(f"{model.base_url}/chat/completions", content=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_other_paths_are_404(model: StubModel) -> None:
    root = model.base_url.removesuffix("/v1")
    assert httpx.get(f"{root}/").status_code == 404
    assert httpx.post(f"{root}/v1/embeddings", json={"messages": []}).status_code == 404


def test_one_connection_serves_many_requests_and_all_are_kept(model: StubModel) -> None:
    """Tests count the calls that an agent makes."""
    with httpx.Client(base_url=model.base_url) as client:
        for number in range(3):
            body = {"model": "stub-1", "messages": [user(f"{number}")], "stream": number == 1}
            assert client.post("/chat/completions", json=body).status_code == 200
    assert [request["messages"][0]["content"] for request in model.requests] == ["0", "1", "2"]


def test_it_can_be_stopped_twice_and_started_again() -> None:
    model = StubModel()
    for _ in range(2):
        model.start()
        assert httpx.get(f"{model.base_url}/models").status_code == 200
        model.stop()
        model.stop()
        with pytest.raises(RuntimeError, match="not started"):
            _ = model.base_url


def test_as_a_command_it_prints_its_address_and_serves_there() -> None:
    words = [sys.executable, "-m", "docker.agent.model", "--api-key", "k", "--word-seconds", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        try:
            assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", address)
            assert httpx.get(f"{address}/models", headers={"authorization": "Bearer k"}).status_code == 200
        finally:
            process.terminate()
