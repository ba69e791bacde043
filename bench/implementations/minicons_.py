"""minicons, through `IncrementalLMScorer.compute_stats`: PyTorch, float32, two threads.

It also computes the logits after the last token of each text, which no score needs.
"""

from collections.abc import Callable


def load_scorer(folder: str) -> Callable[[list[list[int]]], list[list[float]]]:
    """Load a folder in Hugging Face's layout; `token_score` calls the same function after tokenizing."""
    import torch
    from minicons.scorer import IncrementalLMScorer
    from transformers import BatchEncoding

    torch.set_num_threads(2)
    scorer = IncrementalLMScorer(folder, "cpu")

    def score(texts: list[list[int]]) -> list[list[float]]:
        ids = torch.tensor(texts)
        encoded = BatchEncoding({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
        scores: list[list[float]] = scorer.compute_stats(scorer.prepare_text(encoded))
        return scores

    return score
