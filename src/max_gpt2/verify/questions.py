"""What both sides are asked: prompts whose ids and lengths they both know."""

from dataclasses import dataclass

from max_gpt2.checkpoint import LoadPlan
from max_gpt2.errors import RequestError
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.verify.answer import Answers, Side
from max_gpt2.verify.prompts import Prompt, make_prompts

GREEDY_TOKENS = 16


@dataclass(frozen=True)
class Questions:
    """The prompts, and the `vocab` ids and `n_positions` positions that every side has."""

    tokenizer: GPT2Tokenizer
    prompts: list[Prompt]
    vocab: int
    n_positions: int

    def ask(self, side: Side) -> Answers:
        """Return a side's answers; each prompt is continued by 16 tokens, or fewer where the context ends."""
        rows = [prompt.tokens for prompt in self.prompts]
        answers = [side.answer(row, min(GREEDY_TOKENS, self.n_positions - len(row))) for row in rows]
        return Answers(side.wte(), answers)


def make_questions(plan: LoadPlan, other: LoadPlan | None, tokenizer: GPT2Tokenizer) -> Questions:
    """Make the prompts for one checkpoint, or for two; raises RequestError when the two have nothing to compare."""
    vocab, n_positions = plan.config.vocab_size, plan.config.n_positions
    if other:
        _check_comparable(plan, other)
        vocab, n_positions = min(vocab, other.config.vocab_size), min(n_positions, other.config.n_positions)
    prompts = make_prompts(tokenizer, n_positions, vocab)
    if (largest := max(max(prompt.tokens) for prompt in prompts)) >= vocab:
        raise RequestError(
            f"The prompts need the id {largest}, and only {vocab} ids are in both checkpoints. Compare others."
        )
    return Questions(tokenizer, prompts, vocab, n_positions)


def _check_comparable(plan: LoadPlan, other: LoadPlan) -> None:
    names = [name for name in ("n_layer", "n_embd") if getattr(plan.config, name) != getattr(other.config, name)]
    if names:
        sizes = ", ".join(f"{name} {getattr(plan.config, name)} and {getattr(other.config, name)}" for name in names)
        raise RequestError(
            f"{plan.origin.path} and {other.origin.path} cannot be compared: {sizes}. Give two of one size."
        )
