from pathlib import Path
from typing import Any

import pytest

from max_gpt2.batch import InputFile, Line
from max_gpt2.batch.records import OPTIONS, check_fields, line_request, line_seed
from max_gpt2.checkpoint import Checkpoint
from max_gpt2.errors import RequestError
from max_gpt2.generation import Request, SamplingParams


def lines_of(path: Path, content: bytes) -> list[Line]:
    path.write_bytes(content)
    return list(InputFile.scan(path, "prompt").lines())


def test_text_file_has_one_prompt_per_line(tmp_path: Path) -> None:
    found = lines_of(tmp_path / "a.TXT", b"\xef\xbb\xbfone\r\n\n  two \n{}\xe2\x80\xa8x")
    assert found == [
        Line(1, {"prompt": "one"}),
        Line(3, {"prompt": "  two "}),
        Line(4, {"prompt": "{}\u2028x"}),
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson"])
def test_json_lines_are_read(tmp_path: Path, name: str) -> None:
    found = lines_of(tmp_path / name, b'\xef\xbb\xbf{"prompt": "a\\nb", "seed": 3}\r\n \t\n{"id": 1}')
    assert found == [Line(1, {"prompt": "a\nb", "seed": 3}), Line(3, {"id": 1})]
    assert [line.number for line in InputFile.scan(tmp_path / name, "prompt").lines(after=1)] == [3]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "The line is not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"a": 1, "a": 2}', "duplicate key"),
        (b'{"temperature": NaN}', "NaN is not valid JSON"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "The line is not JSON"),
        (b'{"prompt": ' * 100_000, "nested too deeply"),
        (b'{"prompt": "\xff"}', "not UTF-8 at byte 13"),
    ],
)
def test_broken_line_has_a_problem_and_others_are_read(tmp_path: Path, line: bytes, message: str) -> None:
    first, broken, last = lines_of(tmp_path / "a.jsonl", b'{"prompt": "1"}\n' + line + b'\n{"prompt": "3"}\n')
    assert (first.problem, broken.fields, last.fields) == (None, {}, {"prompt": "3"})
    assert message in str(broken.problem)


def test_other_inputs_are_rejected(tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "device.txt").symlink_to("/dev/null")
    for name, message in {
        "a.csv": "neither .jsonl",
        "nothing.txt": "does not exist",
        "device.txt": "not a regular file",
        "blank.txt": "has only blank lines",
    }.items():
        with pytest.raises(RequestError, match=message):
            InputFile.scan(tmp_path / name, "prompt")


def test_line_options_override_the_options_of_the_run(tiny_checkpoint: Checkpoint) -> None:
    tokenizer = tiny_checkpoint.tokenizer
    defaults = Request((), 9, SamplingParams(temperature=0.5, top_k=4), ["x"], logprobs=1)
    request = line_request({"prompt_ids": [1, 2], "id": "a"}, defaults, tokenizer, 77)
    assert request == Request([1, 2], 9, SamplingParams(temperature=0.5, top_k=4, seed=77), ["x"], logprobs=1)
    own: dict[str, Any] = {
        "max_new_tokens": 3,
        "temperature": 1,
        "top_k": 5,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.5,
        "presence_penalty": 0.25,
        "frequency_penalty": -0.5,
        "no_repeat_ngram_size": 3,
        "min_new_tokens": 2,
        "seed": 7,
    }
    more = {"stop", "stop_ids", "logprobs", "context_overflow", "logit_bias", "bad_words"}
    assert own.keys() | more == OPTIONS.keys()
    request = line_request({"prompt": "dog", "stop": "ab", "logprobs": None} | own, defaults, tokenizer, 77)
    length = own.pop("max_new_tokens")
    assert request == Request(tokenizer.encode("dog"), length, SamplingParams(**own), ["ab"], logprobs=None)
    assert line_request({"prompt": "dog", "stop": ["a", "b"]}, defaults, tokenizer, 1).stop == ["a", "b"]


def test_line_can_name_tokens(tiny_checkpoint: Checkpoint) -> None:
    fields = {"prompt": "dog", "stop_ids": [7, 8], "context_overflow": "shift", "logit_bias": {"5": -1.5}}
    words = {"bad_words": ["<|endoftext|>", [3, 4], "quick"]}
    tokenizer = tiny_checkpoint.tokenizer
    request = line_request(fields | words, Request(()), tokenizer, 0)
    assert (request.stop_ids, request.context_overflow) == ([7, 8], "shift")
    assert request.sampling.logit_bias == {5: -1.5}
    assert request.sampling.bad_words == [[299], [3, 4], tokenizer.encode("quick"), tokenizer.encode(" quick")]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": 1}, '"prompt" is not a string'),
        ({"prompt_ids": [1, 2.5]}, '"prompt_ids" is not a list of ids'),
        ({"prompt_ids": [True]}, '"prompt_ids" is not a list of ids'),
        ({"id": 1.5}, '"id" is not a string or an integer'),
        ({"temperature": "hot"}, '"temperature" is not a number'),
        ({"temperature": True}, '"temperature" is not a number'),
        ({"temperature": 10**400}, '"temperature" is not a number'),
        ({"top_k": 4.0}, '"top_k" is not an integer'),
        ({"stop": ["a", 1]}, '"stop" is not a string or a list of strings'),
        ({"stop_ids": 5}, '"stop_ids" is not a list of ids'),
        ({"logit_bias": {"a": 1}}, '"logit_bias" is not an object that maps token ids to numbers'),
        ({"logit_bias": {"5": "1"}}, '"logit_bias" is not an object that maps token ids to numbers'),
        ({"bad_words": ["a", 1]}, '"bad_words" is not a list of strings and of lists of ids'),
        ({"bad_words": [""], "prompt": "a"}, "A text in bad_words is empty"),
        ({"temprature": 1}, 'unknown field "temprature" (did you mean "temperature"?)'),
        ({"a": 1, "top_p": "x"}, 'unknown field "a"; "top_p" is not a number'),
        ({}, 'The line has neither of "prompt" and "prompt_ids"'),
        ({"prompt": "a", "prompt_ids": [1]}, 'The line has both of "prompt" and "prompt_ids"'),
        ({"prompt": "\ud800"}, "not valid Unicode"),
        ({"prompt": "a", "top_p": 0}, "top_p 0 is not above 0"),
    ],
)
def test_bad_field_is_named(tiny_checkpoint: Checkpoint, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as refusal:
        line_request(fields, Request(()), tiny_checkpoint.tokenizer, 0)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_unknown_field_is_rejected() -> None:
    check_fields({"text": "a", "id": 1}, "text", {})
    with pytest.raises(RequestError, match='unknown field "seed"'):
        check_fields({"text": "a", "seed": 1}, "text", {})


def test_line_seeds_are_distinct_and_deterministic() -> None:
    seeds = {line_seed(seed, number) for seed in range(3) for number in range(1, 1000)}
    assert len(seeds) == 3 * 999
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert [line_seed(5, 1), line_seed(5, 2)] == [212330081, 1959725605]
