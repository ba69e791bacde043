"""Step 01: the numbers that define a GPT-2."""

from dataclasses import dataclass


@dataclass
class GPT2Config:
    """The sizes of a GPT-2, named as in Hugging Face's `config.json`; the defaults are those of `gpt2`.

    `n_inner` is the width of the MLP's hidden layer. None stands for GPT-2's default, `4 * n_embd`, and is resolved
    when the config is created, so that no other step has to handle it.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", table 2.
    """

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    layer_norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        """Resolve `n_inner`; raise ValueError if `n_embd` is not a multiple of `n_head`."""
        if self.n_inner is None:
            self.n_inner = 4 * self.n_embd
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} is not a multiple of n_head={self.n_head}")
