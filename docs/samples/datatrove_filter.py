"""Filter JSON lines by perplexity with datatrove.

`python datatrove_filter.py DATA OUT` reads the folder DATA and writes OUT/kept and OUT/dropped.
"""

import math
import sys
from functools import cache

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.pipeline.writers.disk_base import DiskWriter

from max_gpt2.errors import RequestError
from max_gpt2.generation import open_model
from max_gpt2.scoring import ScoreOptions, Scorer, load_scorer, score_texts


@cache  # once in each process; executors copy and pickle the filter, so it does not hold the model
def scorer_of(model: str) -> Scorer:
    """Return the model, loaded and compiled; `model` is "demo", a hub id or a folder."""
    return load_scorer(open_model(model))


class GPT2PerplexityFilter(BaseFilter):
    """Keep documents with a perplexity between two limits, and add it to their metadata.

    A document without a perplexity, because it is empty or not valid Unicode, is dropped. Batches
    of many documents are faster, and do not change the result.
    """

    name = "GPT-2 perplexity"

    def __init__(
        self,
        model: str = "gpt2",
        min_perplexity: float = 0.0,
        max_perplexity: float = math.inf,
        exclusion_writer: DiskWriter | None = None,
        batch_size: int = 256,
    ) -> None:
        """Set the model, the limits, and the writer of dropped documents with their reasons."""
        super().__init__(exclusion_writer, batch_size)
        self.model, self.min_perplexity, self.max_perplexity = model, min_perplexity, max_perplexity

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Return True to keep the document, or False and the reason."""
        return self.filter_batch([doc])[0]

    def filter_batch(self, batch: list[Document]) -> list[bool | tuple[bool, str]]:
        """Return True or the reason for each document."""
        results: list[bool | tuple[bool, str]] = []
        texts = (doc.text for doc in batch)
        scores = score_texts(scorer_of(self.model), texts, ScoreOptions(unit="text"))
        for doc, score in zip(batch, scores, strict=True):
            if isinstance(score, RequestError) or not score.counted:
                results.append((False, "no_perplexity"))
                continue
            doc.metadata |= {"perplexity": score.perplexity, "token_count": len(score.tokens)}
            if score.perplexity < self.min_perplexity:
                results.append((False, "low_perplexity"))
            elif score.perplexity > self.max_perplexity:
                results.append((False, "high_perplexity"))
            else:
                results.append(True)
        return results


if __name__ == "__main__":
    data, out = sys.argv[1:]
    dropped = JsonlWriter(f"{out}/dropped")
    pipeline = [
        JsonlReader(data),  # reads the fields "text" and "id"; the others become metadata
        GPT2PerplexityFilter("demo", max_perplexity=150, exclusion_writer=dropped),
        JsonlWriter(f"{out}/kept"),
    ]
    # One worker, because the model uses all cores.
    LocalPipelineExecutor(pipeline, tasks=1, workers=1, logging_dir=f"{out}/logs").run()
