"""`config.json` and `generation_config.json` of a converted folder."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import transformers

from fixtures.checkpoints import UNEVEN, edit_config
from fixtures.formats import linear_state, write_gguf
from max_gpt2.checkpoint import load_checkpoint
from max_gpt2.checkpoint.convert import convert
from tests.support.sources import all_flags, bfloat16, gguf_quantised, half, hugging_face, llmc, mixed, nanogpt, untied

#: Settings in configs of transformers 2 to 5 that do not change the logits.
PRESERVED: dict[str, Any] = {
    "_num_labels": 1,
    "attn_pdrop": 0.25,
    "decoder_start_token_id": [3, 4],
    "do_sample": True,
    "embd_pdrop": 0.125,
    "gradient_checkpointing": False,
    "id2label": {"0": "LABEL_0"},
    "initializer_range": 0.03,
    "label2id": {"LABEL_0": 0},
    "max_length": 50,
    "output_past": True,
    "pad_token_id": 7,
    "pruned_heads": {},
    "resid_pdrop": 0.5,
    "summary_type": "cls_index",
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
    "use_cache": True,
}
#: Settings that no longer hold after the conversion.
DROPPED: dict[str, Any] = {
    "_attn_implementation": "sdpa",
    "_name_or_path": "somewhere/else",
    "architectures": ["GPT2ForSequenceClassification"],
    "auto_map": {"AutoModel": "theirs.Model"},
    "max_position_embeddings": 67,
    "num_attention_heads": 3,
    "n_ctx": 66,
    "quantization_config": None,
    "torch_dtype": "float16",
    "transformers_version": "4.9.2",
}


def read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text())
    assert path.read_text() == json.dumps(values, indent=2, sort_keys=True) + "\n"
    return values


def test_valid_settings_are_preserved(tiny: Path, tmp_path: Path, transformers_warnings: list[str]) -> None:
    (tiny / "config.json").write_text(json.dumps({"model_type": "gpt2"} | UNEVEN | PRESERVED | DROPPED))
    new = convert(tiny, tmp_path / "new").folder
    assert read(new / "config.json") == PRESERVED | UNEVEN | {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "dtype": "float32",
        "model_type": "gpt2",
        "n_inner": None,
        "reorder_and_upcast_attn": False,
        "scale_attn_by_inverse_layer_idx": False,
        "scale_attn_weights": True,
        "tie_word_embeddings": True,
    }
    transformers.GPT2LMHeadModel.from_pretrained(new)
    assert transformers_warnings == []


@pytest.mark.parametrize("source", [all_flags, untied, half, bfloat16, mixed, nanogpt, llmc, gguf_quantised])
def test_flags_and_dtype_are_written(tmp_path: Path, source: Any) -> None:
    made = source(tmp_path)
    values = read(convert(made.path, tmp_path / "new", made.options).folder / "config.json")
    read_back = transformers.GPT2Config.from_pretrained(tmp_path / "new")
    for name, value in made.config.items():
        assert values[name] == value, name
        assert getattr(read_back, name) == value, name
    dtypes = {str(value.dtype).removeprefix("torch.") for value in made.state.values()}
    assert values["dtype"] == (dtypes.pop() if len(dtypes) == 1 else "float32")
    assert values["tie_word_embeddings"] == ("lm_head.weight" not in made.state)


def test_stop_tokens_of_the_generation_config_are_written(tiny: Path, tmp_path: Path) -> None:
    generation = {"eos_token_id": [299, 5], "repetition_penalty": 1.5, "transformers_version": "4.9.2", "top_k": 3}
    (tiny / "generation_config.json").write_text(json.dumps(generation))
    new = convert(tiny, tmp_path / "new").folder
    expected = {"eos_token_id": [299, 5], "repetition_penalty": 1.5, "top_k": 3}
    assert read(new / "generation_config.json") == expected
    assert read(new / "config.json")["eos_token_id"] == [299, 5]
    assert load_checkpoint(new).config.eos_token_ids == (299, 5)
    assert transformers.GenerationConfig.from_pretrained(new).eos_token_id == [299, 5]


def test_stop_token_is_added_to_the_generation_config(tiny: Path, tmp_path: Path) -> None:
    """Without it, max-gpt2 reads the stop token from config.json, but transformers uses none."""
    (tiny / "generation_config.json").write_text('{"top_k": 3}')
    new = convert(tiny, tmp_path / "new").folder
    assert read(new / "generation_config.json") == {"eos_token_id": 299, "top_k": 3}


def test_missing_generation_config_is_not_created(tiny: Path, tmp_path: Path) -> None:
    """If the file exists, transformers ignores the generation settings that old models have in config.json."""
    (tiny / "generation_config.json").unlink()
    edit_config(tiny, do_sample=True, top_k=3)
    new = convert(tiny, tmp_path / "new").folder
    assert not (new / "generation_config.json").exists()
    assert transformers.GPT2LMHeadModel.from_pretrained(new).generation_config.top_k == 3


@pytest.mark.parametrize(
    ("ids", "expected"), [(None, None), (50256, None), ([299, 50256], 299), (-1, None), ([], None)]
)
def test_ids_outside_the_vocabulary_are_null(
    tiny: Path, tmp_path: Path, transformers_warnings: list[str], ids: object, expected: object
) -> None:
    (tiny / "generation_config.json").unlink()
    edit_config(tiny, bos_token_id=50256, pad_token_id=-1, eos_token_id=299 if ids == -1 else ids)
    values = read(convert(tiny, tmp_path / "new").folder / "config.json")
    assert (values["bos_token_id"], values["pad_token_id"]) == (None, None)
    assert values["eos_token_id"] == (299 if ids == -1 else expected)
    assert read(tmp_path / "new" / "tokenizer_config.json")["eos_token"] == "<|endoftext|>"
    transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "new")
    assert transformers_warnings == []
    again = convert(tmp_path / "new", tmp_path / "again").folder
    assert read(again / "config.json") == values


@pytest.mark.parametrize("source", [nanogpt, llmc])
def test_stop_token_is_read_from_the_tokenizer_without_a_config(tmp_path: Path, source: Any) -> None:
    made = source(tmp_path)
    values = read(convert(made.path, tmp_path / "new", made.options).folder / "config.json")
    assert (values["bos_token_id"], values["eos_token_id"]) == (299, 299)
    for name in ("tokenizer.json", "vocab.json", "merges.txt"):
        (tmp_path / name).unlink()
    (tmp_path / "vocab.json").write_text('{"a": 0, "b": 1, "ab": 2}')
    (tmp_path / "merges.txt").write_text("a b\n")
    values = read(convert(made.path, tmp_path / "other", made.options).folder / "config.json")
    assert (values["bos_token_id"], values["eos_token_id"]) == (None, None)


def test_stop_token_is_read_from_gguf_metadata(tmp_path: Path) -> None:
    class Writer(gguf.GGUFWriter):
        def add_eos_token_id(self, id: int) -> None:  # noqa: A002  (the name in the base class)
            super().add_eos_token_id(id - 250)

    file = write_gguf(tmp_path / "gpt2.gguf", linear_state(), make_writer=Writer)
    values = read(convert(file, tmp_path / "new").folder / "config.json")
    assert (values["bos_token_id"], values["eos_token_id"]) == (49, 49)
    vocab = json.loads((tmp_path / "new" / "vocab.json").read_text())
    assert vocab[read(tmp_path / "new" / "tokenizer_config.json")["eos_token"]] == 49


def test_config_beside_another_format_is_ignored(tmp_path: Path) -> None:
    made = gguf_quantised(tmp_path)
    hugging_face(tmp_path)
    (tmp_path / "config.json").write_bytes((tmp_path / "source" / "config.json").read_bytes())
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 3}')
    new = convert(made.path, tmp_path / "new").folder
    assert "resid_pdrop" not in read(new / "config.json")
    assert read(new / "config.json")["eos_token_id"] == 299
    assert not (new / "generation_config.json").exists()
