"""CTranslate2, through its `Generator`, float32."""

from collections.abc import Callable
from pathlib import Path

CONVERTED = "ctranslate2"


def tokens(folder: str) -> list[str]:
    """Return a placeholder name for each token id; CTranslate2 takes tokens by name."""
    from transformers import AutoConfig

    return [f"t{id_}" for id_ in range(AutoConfig.from_pretrained(folder).vocab_size)]


def convert(folder: str, target: Path) -> None:
    """Convert the model to CTranslate2's format."""
    from ctranslate2.converters import TransformersConverter

    names = tokens(folder)

    class Names:
        bos_token = eos_token = unk_token = names[-1]

        def get_vocab(self) -> dict[str, int]:
            return {name: id_ for id_, name in enumerate(names)}

    class Converter(TransformersConverter):  # type: ignore[misc]
        def load_tokenizer(self, *_: object, **__: object) -> Names:
            return Names()

    Converter(folder).convert(str(target / CONVERTED))


def load(folder: str) -> Callable[[list[list[int]], int], list[list[int]]]:
    """Load the converted model."""
    import ctranslate2

    model = ctranslate2.Generator(
        f"{folder}/{CONVERTED}", device="cpu", compute_type="float32", inter_threads=1, intra_threads=2
    )

    def generate(prompts: list[list[int]], new: int) -> list[list[int]]:
        batch = [[f"t{id_}" for id_ in prompt] for prompt in prompts]
        found = model.generate_batch(
            batch, max_length=new, min_length=new, beam_size=1, sampling_topk=1, include_prompt_in_result=False
        )
        return [list(one.sequences_ids[0]) for one in found]

    return generate
