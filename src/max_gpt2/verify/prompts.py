"""The prompts of a verification, restricted to the ids and positions that both implementations support."""

from dataclasses import dataclass

from max_gpt2.checkpoint import LoadPlan
from max_gpt2.errors import RequestError
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.verify.models import Implementation, ModelOutputs, PromptSetOutputs

GREEDY_TOKENS = 16
SENTENCE = "It was the best of times, it was the worst of times, and nobody could tell which."
EMOJI = "Good morning 🌍! Ça va? 你好, мир… 🙂🙃"


@dataclass(frozen=True)
class Prompt:
    """A prompt and its token ids, at most `n_positions` of them."""

    name: str
    tokens: list[int]


@dataclass(frozen=True)
class PromptSet:
    """The prompts to compute, with the vocabulary size and the context length that all implementations support."""

    tokenizer: GPT2Tokenizer
    prompts: list[Prompt]
    vocab: int
    n_positions: int

    def compute(self, implementation: Implementation) -> PromptSetOutputs:
        """Run an implementation on every prompt, continuing each by up to 16 tokens within the context."""
        return PromptSetOutputs(
            implementation.wte(), [self._compute_one(implementation, prompt.tokens) for prompt in self.prompts]
        )

    def _compute_one(self, implementation: Implementation, tokens: list[int]) -> ModelOutputs:
        return implementation.compute(tokens, min(GREEDY_TOKENS, self.n_positions - len(tokens)))


def make_prompts(tokenizer: GPT2Tokenizer, n_positions: int, vocab_size: int) -> list[Prompt]:
    """Return four prompts: one token, a sentence, one with emoji, and one that fills the context.

    The last one continues with ids spread over the whole vocabulary, so that it covers many rows of `wte`. A text that
    the tokenizer does not know at all, such as English for a model of DNA, is left out.
    """
    sentence, emoji = _encode_known(tokenizer, SENTENCE), _encode_known(tokenizer, EMOJI)
    spread = [vocab_size * step // n_positions for step in range(n_positions)]
    prompts = {
        "one token": [*sentence, *emoji, *spread][:1],
        "a sentence": sentence,
        "with emoji": emoji,
        "the full context": sentence + emoji + spread,
    }
    return [Prompt(name, ids[:n_positions]) for name, ids in prompts.items() if ids]


def _encode_known(tokenizer: GPT2Tokenizer, text: str) -> list[int]:
    try:
        return tokenizer.encode(text)
    except RequestError:
        return []


def make_prompt_set(plan: LoadPlan, other: LoadPlan | None, tokenizer: GPT2Tokenizer) -> PromptSet:
    """Make the prompts for one checkpoint or for a pair; raises RequestError when the pair cannot be compared."""
    vocab, n_positions = plan.config.vocab_size, plan.config.n_positions
    if other:
        _check_comparable(plan, other)
        vocab, n_positions = min(vocab, other.config.vocab_size), min(n_positions, other.config.n_positions)
    prompts = make_prompts(tokenizer, n_positions, vocab)
    if (largest := max(max(prompt.tokens) for prompt in prompts)) >= vocab:
        raise RequestError(
            f"The prompts use token id {largest}, but only {vocab} ids are in both checkpoints. "
            "Compare checkpoints with larger vocabularies."
        )
    return PromptSet(tokenizer, prompts, vocab, n_positions)


def _check_comparable(plan: LoadPlan, other: LoadPlan) -> None:
    names = [name for name in ("n_layer", "n_embd") if getattr(plan.config, name) != getattr(other.config, name)]
    if names:
        sizes = ", ".join(f"{name} {getattr(plan.config, name)} and {getattr(other.config, name)}" for name in names)
        raise RequestError(
            f"{plan.origin.path} and {other.origin.path} cannot be compared: {sizes}. "
            "Give two checkpoints of the same size."
        )
