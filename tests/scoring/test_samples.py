"""The examples for datatrove and datasets, run by these libraries and compared with transformers."""

import gzip
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from datasets.fingerprint import Hasher

from fixtures.checkpoints import UNEVEN
from max_gpt2.scoring import Scorer
from tests.scoring.oracle import distributions, logprobs_of

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
LETTERS = "the quick brown fox jumps over the lazy dog and was it the best of times?"
#: One of them is longer than the context of the tiny checkpoint, so that windows slide over it.
TEXTS = [LETTERS[start : start + length] for start in range(7) for length in (5, 20, 60)] + [LETTERS * 5]


def sample(name: str) -> ModuleType:
    """Import a file of docs/samples."""
    spec = importlib.util.spec_from_file_location(name, SAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def perplexities(scorer: Scorer) -> list[float]:
    """Return the perplexity of each of `TEXTS` according to transformers."""
    sequences = [[UNEVEN["bos_token_id"], *scorer.tokenizer.encode(text)] for text in TEXTS]
    window = UNEVEN["n_positions"]
    rows = distributions(sequences, window, window // 2)
    return [float(np.exp(-np.mean(logprobs_of(one, row)))) for one, row in zip(sequences, rows, strict=True)]


def read_documents(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the metadata of all documents that datatrove wrote, by id."""
    lines = [line for path in folder.glob("*.jsonl.gz") for line in gzip.decompress(path.read_bytes()).splitlines()]
    return {one["id"]: one["metadata"] for one in map(json.loads, lines)}


def test_datatrove_keeps_documents_within_the_limits(scorer: Scorer, tiny_original: Path, tmp_path: Path) -> None:
    pytest.importorskip("orjson", reason="datatrove's JsonlReader needs orjson")
    module = sample("datatrove_filter")
    expected = {str(number): value for number, value in enumerate(perplexities(scorer))}
    low, high = np.quantile(list(expected.values()), [0.25, 0.75])
    rows = [{"id": number, "text": text, "lang": "en"} for number, text in zip(expected, TEXTS, strict=True)]
    (tmp_path / "data").mkdir()
    for name, part in (("a", rows[:9]), ("b", [*rows[9:], {"id": "blank", "text": " "}])):
        (tmp_path / "data" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    writer = module.JsonlWriter(str(tmp_path / "dropped"))
    pipeline = [
        module.JsonlReader(str(tmp_path / "data")),
        lambda documents, rank, world_size: emptied(documents),
        module.GPT2PerplexityFilter(str(tiny_original), low, high, writer, batch_size=4),
        module.JsonlWriter(str(tmp_path / "kept")),
    ]
    executor = module.LocalPipelineExecutor(pipeline, tasks=2, workers=1, logging_dir=str(tmp_path / "logs"))
    executor.run()
    kept, dropped = read_documents(tmp_path / "kept"), read_documents(tmp_path / "dropped")
    assert set(kept) == {number for number, value in expected.items() if low <= value <= high}
    reasons = {number: "low_perplexity" if value < low else "high_perplexity" for number, value in expected.items()}
    assert {number: one["filter_reason"] for number, one in dropped.items()} == {
        number: reason for number, reason in reasons.items() if number not in kept
    } | {"blank": "no_perplexity"}
    assert set(reasons.values()) == {"low_perplexity", "high_perplexity"}
    for number, value in expected.items():
        metadata = (kept | dropped)[number]
        assert metadata["perplexity"] == pytest.approx(value, rel=1e-4)
        assert metadata["token_count"] == len(scorer.tokenizer.encode(TEXTS[int(number)]))
        assert metadata["lang"] == "en"
    assert "perplexity" not in dropped["blank"]
    stats = json.loads((tmp_path / "logs" / "stats.json").read_text())
    assert [one["stats"]["dropped"] for one in stats if "GPT-2" in one["name"]] == [len(dropped)]


def emptied(documents: Any) -> Any:
    """Yield the documents; one of them loses its text, as in an earlier step of a pipeline."""
    for document in documents:
        if document.id == "blank":
            document.text = ""
        yield document


def test_datasets_map_adds_the_perplexity(scorer: Scorer, tiny_original: Path, tmp_path: Path) -> None:
    module = sample("datasets_map")
    source = tmp_path / "data.jsonl"
    source.write_text("".join(json.dumps({"text": text, "n": n}) + "\n" for n, text in enumerate([*TEXTS, ""])))
    data = module.Dataset.from_json(str(source), cache_dir=str(tmp_path / "cache"))
    options = {"batched": True, "batch_size": 5, "fn_kwargs": {"model": str(tiny_original)}}
    before = Hasher.hash(module.add_perplexity)
    scored = data.map(module.add_perplexity, **options)
    assert scored["n"] == list(range(len(TEXTS) + 1))
    assert scored["perplexity"][:-1] == pytest.approx(perplexities(scorer), rel=1e-4)
    assert scored["perplexity"][-1] is None
    # The hash names the file in which datasets caches the result; it must not depend on the loaded model.
    assert Hasher.hash(module.add_perplexity) == before
