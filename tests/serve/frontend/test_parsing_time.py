"""Every body is parsed in time that is linear in its size; large ones are parsed in a thread."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from max_gpt2.serve.frontend import app
from max_gpt2.serve.frontend.chat import ChatTemplate
from max_gpt2.serve.frontend.errors import RefusedError
from max_gpt2.serve.frontend.parsing import parse_object
from max_gpt2.serve.frontend.request import read_chat, read_completion
from max_gpt2.serve.settings import Limits, ServedModel
from tests.serve.frontend.servers import Api
from tests.support.growth import assert_linear


def listed(item: str, size: int) -> str:
    return f"[{','.join([item] * (size // (len(item) + 1)))}]"


def biases(size: int) -> str:
    return ",".join(f'"{index:09}":1' for index in range(size // 14))


def named(size: int, value: str = "0") -> str:
    return ",".join(f'"{index}":{value}' for index in range(size // 10))


TWICE = '"z":0,"z":1'  # after all other names
#: Functions of the size of the body.
COMPLETIONS: dict[str, Callable[[int], str]] = {
    "last name twice": lambda size: f"{named(size)},{TWICE}",
    "nested name twice": lambda size: f'"logit_bias":{{{named(size)},{TWICE}}}',
    "unknown names": named,
    "unknown nested names": lambda size: f'"stream_options":{{{named(size)}}}',
    "long unknown name": lambda size: f'"{"temperature" * (size // 11)}":1',
    "objects": lambda size: f'"prompt":{listed("{}", size)}',
    "lists": lambda size: f'"prompt":{listed("[]", size)}',
    "deep lists": lambda size: f'"prompt":{"[" * size}',
    "integers": lambda size: f'"prompt":{listed("1", size)}',
    "floats": lambda size: f'"prompt":{listed("5.0", size)}',
    "long integers": lambda size: f'"prompt":{listed("9" * 4300, size)}',
    "long float": lambda size: f'"prompt":0.{"1" * size}',
    "long string as number": lambda size: f'"temperature":"{"1" * size}"',
    "strings": lambda size: f'"prompt":{listed(chr(34) * 2, size)}',
    "brackets in strings": lambda size: f'"prompt":"{"[{" * (size // 2)}"',
    "open string": lambda size: f'"prompt":"{"{" * 30_000}{chr(92) + chr(34)}{"x" * size}',
    "escapes": lambda size: f'"prompt":"{chr(92)}ud83d{"x" * size}"',
    "biases": lambda size: (
        f'"logit_bias":{{{",".join(f"{chr(34)}{index:09}{chr(34)}:1" for index in range(size // 12))}}}'
    ),
    "zeros in biases": lambda size: f'"logit_bias":{{"{"0" * size}":1}}',
    "long stops": lambda size: f'"stop":{listed(chr(34) + "a" * (size // 16) + chr(34), size)}',
    "long prompt": lambda size: f'"prompt":"{"a" * size}"',
    "prompts": lambda size: f'"prompt":{listed(chr(34) + "a b" * 20 + chr(34), size // 16)}',
    "model": lambda size: f'"model":"{"a" * size}"',
}
USER = '"role":"user"'
CHATS: dict[str, Callable[[int], str]] = {
    "messages": lambda size: listed("{}", size),
    "numbers for messages": lambda size: listed("0", size),
    "parts": lambda size: f'[{{{USER},"content":{listed("0", size)}}}]',
    "text parts": lambda size: f'[{{{USER},"content":{listed(chr(123) + chr(34) + "type" + chr(34) + ":0}", size)}}}]',
    "names in a message": lambda size: f'[{{{USER},"content":"a",{named(size)}}}]',
    "null in a message": lambda size: f'[{{{USER},"content":"a",{named(size, "null")}}}]',
    "role": lambda size: f'[{{"role":"{"a" * size}","content":"a"}}]',
    "content": lambda size: f'[{{{USER},"content":"{"a " * (size // 2)}"}}]',
}


@pytest.fixture(scope="module")
def read(served: ServedModel) -> Callable[[bytes], object]:
    """Parse a completion or a chat as the server does, whether it is valid or not."""
    template, limits = ChatTemplate("{{ messages[0].content }}", served.tokenizer), Limits()

    def read(body: bytes) -> object:
        try:
            fields = parse_object(body)
            return (
                read_chat(fields, served, limits, template)
                if "messages" in fields
                else read_completion(fields, served, limits)
            )
        except RefusedError as refused:
            return refused

    return read


@pytest.mark.parametrize("name", COMPLETIONS)
def test_completion_is_parsed_in_linear_time(read: Callable[[bytes], object], name: str) -> None:
    assert_linear(lambda size: f'{{"model":"tiny",{COMPLETIONS[name](size)}}}'.encode(), read, 60_000)


@pytest.mark.parametrize("name", CHATS)
def test_chat_is_parsed_in_linear_time(read: Callable[[bytes], object], name: str) -> None:
    assert_linear(lambda size: f'{{"model":"tiny","messages":{CHATS[name](size)}}}'.encode(), read, 60_000)


def test_large_bodies_are_parsed_beside_the_event_loop(shared: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []

    def spy(*arguments: Any) -> Any:
        threads.append(threading.current_thread().name)
        return read_completion(*arguments)

    monkeypatch.setattr(app, "read_completion", spy)
    shared.complete("a", max_tokens=1)
    shared.complete([[5] * 60] * 80, max_tokens=1)
    assert not threads[0].startswith("parser")
    assert threads[1].startswith("parser")
