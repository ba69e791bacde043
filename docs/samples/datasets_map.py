"""Add the perplexity to a Hugging Face dataset and filter it.

`python datasets_map.py DATA.jsonl OUT.parquet` reads JSON lines and writes a Parquet file.
"""

import sys
from functools import cache

from datasets import Dataset

from max_gpt2.errors import RequestError
from max_gpt2.generation import open_model
from max_gpt2.scoring import Score, ScoreOptions, Scorer, load_scorer, score_texts


@cache  # `map` hashes and pickles its function, so the model is not part of it
def scorer_of(model: str) -> Scorer:
    """Return the model, loaded and compiled; `model` is "demo", a hub id or a folder."""
    return load_scorer(open_model(model))


def perplexity(score: Score | RequestError) -> float | None:
    """Return the perplexity; None for a text that is empty or not valid Unicode."""
    return None if isinstance(score, RequestError) or not score.counted else score.perplexity


def add_perplexity(batch: dict[str, list[str]], model: str) -> dict[str, list[float | None]]:
    """Return the new column for a batch."""
    scores = score_texts(scorer_of(model), batch["text"], ScoreOptions(unit="text"))
    return {"perplexity": [perplexity(score) for score in scores]}


if __name__ == "__main__":
    source, target = sys.argv[1:]
    data = Dataset.from_json(source)
    # Batches of many rows are faster: texts of similar length are computed together.
    options = {"batched": True, "batch_size": 1000, "fn_kwargs": {"model": "demo"}}
    scored = data.map(add_perplexity, **options)
    kept = scored.filter(lambda row: row["perplexity"] is not None and row["perplexity"] <= 150)
    print(f"{len(kept)} of {len(scored)} texts kept")
    kept.to_parquet(target)
