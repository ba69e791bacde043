import json
import math

from max_gpt2._files import json_text


def test_it_is_one_line_of_json_for_every_reader() -> None:
    value = {"a": ["ä\x85\u2028\u2029\n\x1c", {"b": 1.5}], "half": "\ud800"}
    text = json_text(value)
    assert json.loads(text) == value
    assert text.splitlines() == [text.encode().decode()]
    assert json_text({"a": "ä\u2028"}) == '{"a": "ä\\u2028"}'


def test_null_stands_for_what_is_not_finite() -> None:
    assert json_text({"a": [math.nan, -math.inf, 1.0]}) == '{"a": [null, null, 1.0]}'
