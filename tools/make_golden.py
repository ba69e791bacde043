"""Write the claims of the demo checkpoint with transformers: `python -m tools.make_golden`.

They are to `max-gpt2 golden` what published numbers are: made by another program. Nothing here uses max-gpt2's model.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
import transformers

from max_gpt2.checkpoint.locate import DEMO
from max_gpt2.scoring.claims import DEMO_CLAIMS

TEXTS = ("It is a truth universally acknowledged", "Miss Bates, naïve & kind, said:\n\t“No!”")
SOURCE = f"transformers {transformers.__version__} (tools/make_golden.py)"


class Reference:
    """A checkpoint in transformers, on the CPU and in float32."""

    def __init__(self, folder: Path) -> None:
        """Load the model and the tokenizer."""
        load: Any = transformers.GPT2LMHeadModel.from_pretrained
        self.model = load(folder, dtype=torch.float32).eval()
        self.model.generation_config = transformers.GenerationConfig()
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
        self.bos: int = self.model.config.bos_token_id

    def ids(self, text: str, bos: bool = False) -> list[int]:
        """Return the ids of a text."""
        return [self.bos] * bos + self.tokenizer(text, add_special_tokens=False).input_ids

    def logprobs(self, ids: list[int]) -> torch.Tensor:
        """Return log probabilities after each id, in double precision: [seq, vocab]."""
        with torch.no_grad():
            return self.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)

    def logits(self, ids: list[int]) -> torch.Tensor:
        """Return the logits after the last id: [vocab]."""
        with torch.no_grad():
            return self.model(torch.tensor([ids])).logits[0, -1]

    def greedy(self, ids: list[int], count: int) -> list[int]:
        """Return a greedy continuation of `count` ids."""
        prompt = torch.tensor([ids])
        options = transformers.GenerationConfig(do_sample=False, max_new_tokens=count, pad_token_id=0)
        row = self.model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=options)[0]
        return row[len(ids) :].tolist()

    def surprisals(self, text: str, bos: bool, log_of_base: float = 1.0) -> list[float]:
        """Return the surprisals of the ids of a text that have a context."""
        ids = self.ids(text, bos)
        rows = self.logprobs(ids)[:-1]
        return (-rows[range(len(ids) - 1), ids[1:]] / log_of_base).tolist()

    def corrected(self, text: str) -> list[float]:
        """Return surprisals in bits after BOS, with the word boundary correction (arXiv 2406.14561)."""
        ids = self.ids(text, bos=True)
        starts = torch.tensor([one.startswith("Ġ") for one in self.pieces()])  # [vocab]
        boundary = self.logprobs(ids)[:, starts].logsumexp(-1)  # after each id, that of a leading space
        found = self.surprisals(text, bos=True)
        for index in range(1, len(ids)):
            if index + 1 == len(ids) or starts[ids[index + 1]]:
                found[index - 1] -= float(boundary[index])
            if index > 1 and starts[ids[index]]:
                found[index - 1] += float(boundary[index - 1])
        return [one / math.log(2) for one in found]

    def pieces(self) -> list[str]:
        """Return the token of each id of the model; an id without one has an empty string: [vocab]."""
        known = {id_: token for token, id_ in self.tokenizer.get_vocab().items()}
        return [known.get(id_, "") for id_ in range(self.model.config.vocab_size)]


def make_claims(folder: Path, model: str, texts: tuple[str, ...] = TEXTS) -> list[dict[str, Any]]:
    """Return one claim of every kind for each text, as entries of a file of claims."""
    reference = Reference(folder)
    claims: list[dict[str, Any]] = []
    for text in texts:
        ids = reference.ids(text)
        last = reference.logits(ids)
        continuation = reference.greedy(ids, 12)
        best = int(last.argmax())
        surprisals = reference.surprisals(text, bos=True)
        number = {"tolerance": 1e-3}
        claims += [
            {"kind": "token_ids", "text": text, "expected": ids},
            {"kind": "greedy", "ids": ids, "max_new_tokens": 12, "expected": continuation},
            {
                "kind": "greedy",
                "text": text,
                "max_new_tokens": 12,
                "expected": reference.tokenizer.decode(continuation),
            },
            {"kind": "argmax", "text": text, "expected": [best, float(last[best])], **number},
            {"kind": "mean_loss", "text": text, "bos": True, "expected": sum(surprisals) / len(surprisals), **number},
            {"kind": "surprisal_sum", "ids": ids, "expected": sum(reference.surprisals(text, bos=False)), **number},
            {"kind": "surprisals", "text": text, "expected": reference.surprisals(text, bos=False), **number},
            {"kind": "surprisals", "text": text, "bos": True, "base": "2", "word_boundary_correction": True}
            | {"expected": reference.corrected(text), **number},
        ]
    return [{"models": [model], **claim, "source": SOURCE} for claim in claims]


def write_claims(path: Path, claims: list[dict[str, Any]]) -> None:
    """Write a file of claims with one line for each."""
    lines = ",\n".join(f"    {json.dumps(claim, ensure_ascii=False)}" for claim in claims)
    path.write_text(f'{{\n  "claims": [\n{lines}\n  ]\n}}\n', encoding="utf-8")


if __name__ == "__main__":
    write_claims(DEMO_CLAIMS, make_claims(DEMO, "demo"))
