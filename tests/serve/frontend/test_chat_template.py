"""Templates come with checkpoints and are untrusted: they run in a process with limits."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from max_gpt2.errors import ConfigError
from max_gpt2.serve.frontend.chat import ChatTemplate
from max_gpt2.serve.frontend.errors import RefusedError
from max_gpt2.serve.frontend.schema import Message
from max_gpt2.serve.frontend.template_process import TemplateProcess
from max_gpt2.serve.settings import ServedModel
from tests.serve.frontend.process_tree import alive
from tests.serve.frontend.servers import api

MESSAGES = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "a b"}]
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


@pytest.fixture
def render() -> Iterator[Callable[[str], dict[str, str]]]:
    """Render a template, which may also fail when it is compiled."""
    processes = []

    def render(source: str) -> dict[str, str]:
        process = TemplateProcess(source)
        processes.append(process)
        return process.render({"messages": MESSAGES, "add_generation_prompt": True, "eos_token": "</s>"})

    yield render
    for process in processes:
        process.close()


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}{{ m.role }}: {{ m['content'].strip() }}{{ eos_token }}\\n{% endfor %}",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + loop.index0 %}{% endfor %}{{ ns.n }}",
        "{% for m in messages if m.role == 'user' %}{{ m.content.split(' ')[0].upper() }}{% continue %}x{% endfor %}",
        "{% macro show(m) %}<{{ m.content | trim }}>{% endmacro %}{{ show(messages[0]) }}",
        "{{ messages | map('tojson') | join }}",
        "{% for k, v in messages[0].items() %}{{ k }}={{ v.replace('l', 'L') }}{{ loop.last }}{% endfor %}",
        "{{ messages | map(attribute='role') | list | length }}{{ messages[-1].content.startswith('a') }}",
        "{{ '%s %d' | format('a', 3) }}{{ '{} {}'.format('a', 4) }}",
        "{{ messages | selectattr('role', 'equalto', 'user') | list }}",
        "{%- if add_generation_prompt -%}{{ raise_exception is defined }}{{ messages[0].x is defined }}{%- endif -%}",
    ],
)
def test_text_is_that_of_transformers(render: Callable[[str], dict[str, str]], source: str) -> None:
    rendered: Any = render_jinja_template(
        conversations=[MESSAGES], chat_template=source, add_generation_prompt=True, eos_token="</s>"
    )
    assert render(source) == {"text": rendered[0][0]}


@pytest.mark.parametrize(
    "source",
    [
        LOOP,
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{% set ns = namespace(s=messages) %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
        "{% set n = namespace(s='a') %}{% for i in range(40) %}{% set n.s = n.s | replace('a', 'aa') %}{% endfor %}",
        "{{ range(10**9) | list }}",
        "{{ range(99999) | map('string') | map('center', 99999) | join }}",
        "{{ 'a' * 10**12 }}",
        "{{ 7 ** (7 ** 9) }}",
        "{% set x = 7 ** (7 ** 9) %}{{ x }}",
        "{{ '%999999999999d' % 1 }}",
        "{{ 'a' | center(10**11) }}",
        "{{ ('a ' * 10**7) | wordwrap(1) }}",
        "{{ lipsum(n=10**9) }}",
        "{{ ('a' * 10**8) | indent(10**6) | urlize }}",
        "{{ [[0] * 10**9, messages] | sum(start=[]) }}",
        "{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
        "{% for i in messages recursive %}{{ loop(messages) }}{% endfor %}",
        "{{ (" + "(" * 20000 + "1" + ")" * 20000 + ") }}",
        "{{ ('a' * 30) | batch(10**12, 'x') | list }}",
        "{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}",
    ],
)
def test_time_and_memory_are_limited(render: Callable[[str], dict[str, str]], source: str) -> None:
    started = time.monotonic()
    assert render(source).keys() == {"failed"}
    assert time.monotonic() - started < 30  # with the processor shared by many


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.__class__ }}",
        "{{ '' | attr('__class__') }}",
        "{{ '{0.__class__}'.format('') }}",
        "{{ ['{0.__class__}'] | map('format', '') | first }}{{ '{0.__class__}'.format_map({'0': ''}) }}",
        "{{ raise_exception.__globals__ }}",
        "{{ strftime_now.__code__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ lipsum.__globals__['os'].popen('id') }}",
        "{{ (messages | map('upper')).gi_frame.f_globals }}",
        "{{ [messages] | map(attribute='__class__') | first }}",
        "{{ self._TemplateReference__context.eval_ctx }}",
        "{{ self.__init__.__globals__ }}",
        "{{ range.__self__ }}",
        "{% for i in messages %}{{ loop.__class__ }}{% endfor %}",
        "{% macro m() %}{% endmacro %}{{ m.name }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}{{ os.environ }}",
    ],
)
def test_attributes_and_files_are_out_of_reach(render: Callable[[str], dict[str, str]], source: str) -> None:
    reply = render(source)
    assert "failed" in reply or reply == {"text": ""}  # Jinja renders an undefined value as nothing


def test_process_is_started_again_after_it_was_killed(served: ServedModel) -> None:
    source = f"{{% if messages[0].content == 'loop' %}}{LOOP}{{% endif %}}ab"
    template = ChatTemplate(source, served.tokenizer)
    with pytest.raises(RefusedError, match="it ran for more than 1 s"):
        template.ids([Message(role="user", content="loop")], 60)
    assert template.ids([Message(role="user", content="a")], 60) == served.tokenizer.encode("ab")
    process = template._process._process
    assert process is not None
    template.close()
    assert not alive(process.pid)


def test_chat_with_an_endless_template_is_a_400(served: ServedModel) -> None:
    with api(served, template=LOOP) as made:
        error = made.refused(400, "/v1/chat/completions", model="tiny", messages=MESSAGES)
        assert (error["param"], error["code"]) == ("messages", "chat_template")
        assert "it ran for more than 1 s" in error["message"]


def test_environment_of_the_server_is_not_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_GPT2_API_KEY", "secret")
    process = TemplateProcess("a")
    assert process.compile() is None
    assert process._process is not None
    assert Path(f"/proc/{process._process.pid}/environ").read_bytes() == b""
    process.close()


def test_template_that_computes_a_constant_forever_is_a_config_error(served: ServedModel) -> None:
    """Jinja computes constants when it compiles."""
    with pytest.raises(ConfigError, match="it ran for more than 1 s"):
        ChatTemplate("{{ 7 ** (7 ** 9) }}", served.tokenizer)
