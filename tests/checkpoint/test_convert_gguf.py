"""Checkpoints converted to GGUF, read with the `gguf` package and with max-gpt2."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from fixtures.checkpoints import TEXT, edit_config, edit_weights, reference_model, write_checkpoint
from fixtures.formats import EPSILON, gguf_name, linear_layout, linear_state, write_gguf
from fixtures.zoo.gguf_files import random_blocks, writer_of
from max_gpt2.checkpoint import DEFAULT_OPTIONS, LoadOptions, inspect_checkpoint, load_checkpoint
from max_gpt2.checkpoint.gguf_convert import FILE_TYPES, GGUFConversion, convert_to_gguf, tensor_types
from tests.support.sources import (
    HEAD,
    Made,
    bfloat16,
    gguf_bfloat16,
    gguf_float32,
    gguf_half,
    gguf_quantised,
    half,
    hugging_face,
    llmc,
    llmc_bfloat16,
    mixed,
    pickled_half_legacy,
    published,
    sharded,
    untied,
    untied_despite_the_config,
    with_tensors_of_other_programs,
)

TEXTS = ["", TEXT, " Hello  world\n\n\n", "Good morning 🌍! Ça va? 你好", "a<|endoftext|>b", "\x00"]
#: Rows of 96 and 60: a block of 32 divides only the first.
SIZES: dict[str, Any] = {"n_embd": 96, "n_inner": 60, "layer_norm_epsilon": EPSILON}


def tensors(file: Path) -> dict[str, gguf.ReaderTensor]:
    return {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}


def metadata(file: Path) -> dict[str, Any]:
    return {
        name: field.contents() for name, field in gguf.GGUFReader(file).fields.items() if not name.startswith("GGUF.")
    }


def write(folder: Path, type_: str | None = None, options: LoadOptions = DEFAULT_OPTIONS) -> GGUFConversion:
    return convert_to_gguf(folder, folder.parent / "new.gguf", type_, options)


def expected_type(name: str, rows: np.ndarray, type_: str, head: str) -> GGMLQuantizationType:
    """Return the type that llama.cpp's converter chooses, with Q8_0 for a head that it would store in Q6_K."""
    if rows.ndim == 1 or name == "position_embd.weight":
        return GGMLQuantizationType.F32
    if name == head and type_ in ("q4_0", "q4_1", "q5_0", "q5_1"):
        type_ = "q8_0"
    return GGMLQuantizationType["F16" if type_[0] == "q" and rows.shape[-1] % 32 else type_.upper()]


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("type_", FILE_TYPES)
def test_tensors_are_those_of_the_quantisers_of_gguf(tmp_path: Path, type_: str, tie: bool) -> None:
    folder = write_checkpoint(tmp_path / "source", **SIZES, tie_word_embeddings=tie)
    done = write(folder, type_)
    weights = linear_layout(reference_model(**SIZES, tie_word_embeddings=tie))
    expected = {gguf_name(name): value for name, value in weights.items() if name != HEAD or not tie}
    found = tensors(done.file)
    assert found.keys() == expected.keys()
    head = "token_embd.weight" if tie else "output.weight"
    for name, rows in expected.items():
        kind = expected_type(name, rows, type_, head)
        assert found[name].tensor_type is kind, name
        assert tuple(found[name].shape) == rows.shape[::-1]
        assert found[name].data.tobytes() == gguf.quants.quantize(rows, kind).tobytes(), name
    assert {name: tensor.tensor_type.name for name, tensor in found.items()} == done.types
    assert done.bytes == done.file.stat().st_size
    other = {name for name, rows in expected.items() if rows.ndim == 2 and name != "position_embd.weight"}
    assert done.reasons.keys() == {name for name in other if done.types[name] != type_.upper()}
    if type_ == "q4_0":
        assert done.reasons[head] == "the output head has 8 bits or more"
        assert done.reasons["blk.0.ffn_down.weight"] == "rows of 60 are not a multiple of the block of Q4_0"


@pytest.mark.parametrize("type_", FILE_TYPES)
def test_file_is_read_back_with_the_values_that_gguf_dequantises(tmp_path: Path, type_: str) -> None:
    folder = write_checkpoint(tmp_path / "source", **SIZES)
    before, after = load_checkpoint(folder), load_checkpoint(write(folder, type_).file)
    kinds = {gguf_name(name): name for name in before.state_dict}
    for name, tensor in tensors(tmp_path / "new.gguf").items():
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        conv1d = kinds[name].endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))
        np.testing.assert_array_equal(after.state_dict[kinds[name]], values.T if conv1d else values)
    assert after.config.intermediate_size == 60
    assert after.plan.tied


@pytest.mark.parametrize(
    "source",
    [
        hugging_face,
        untied,
        untied_despite_the_config,
        sharded,
        half,
        bfloat16,
        mixed,
        with_tensors_of_other_programs,
        published,
        pickled_half_legacy,
        llmc,
        llmc_bfloat16,
        gguf_float32,
        gguf_half,
        gguf_bfloat16,
        gguf_quantised,
    ],
    ids=lambda source: source.__name__,
)
def test_nothing_is_lost_by_default(tmp_path: Path, source: Callable[[Path], Made]) -> None:
    made = source(tmp_path)
    before = load_checkpoint(made.path, made.options)
    done = convert_to_gguf(made.path, tmp_path / "new.gguf", None, made.options)
    after = load_checkpoint(done.file)
    assert before.state_dict.keys() == after.state_dict.keys()
    for name, value in before.state_dict.items():
        assert value.tobytes() == after.state_dict[name].tobytes(), name
    assert after.plan.tied == before.plan.tied
    for name in ("n_layer", "n_head", "n_positions", "layer_norm_epsilon", "intermediate_size"):
        assert getattr(after.config, name) == getattr(before.config, name)
    for text in TEXTS:
        assert after.tokenizer.encode(text) == before.tokenizer.encode(text)
    assert after.tokenizer.special_ids == before.tokenizer.special_ids
    again = convert_to_gguf(done.file, tmp_path / "again.gguf")
    assert tensors(again.file).keys() == tensors(done.file).keys()
    assert again.types == done.types


@pytest.mark.parametrize(
    ("source", "type_"),
    [
        (hugging_face, "f32"),
        (half, "f16"),
        (bfloat16, "bf16"),
        (mixed, "mixed"),
        (gguf_half, "f16"),
        (gguf_quantised, "q8_0"),
    ],
)
def test_default_type_is_that_of_the_source(tmp_path: Path, source: Callable[[Path], Made], type_: str) -> None:
    made = source(tmp_path)
    assert convert_to_gguf(made.path, tmp_path / "new.gguf", None, made.options).type == type_


def test_rows_that_no_block_divides_become_f16(tiny: Path) -> None:
    """In gpt2-xl, rows of 1600 are a multiple of 32; no published size needs this."""
    done = write(tiny, "q8_0")
    assert done.types["blk.0.attn_qkv.weight"] == "F16"
    assert done.types["blk.0.ffn_down.weight"] == "Q8_0"
    assert done.reasons["blk.0.attn_qkv.weight"] == "rows of 24 are not a multiple of the block of Q8_0"


def test_metadata_has_the_keys_of_the_converter_of_llama_cpp(tiny: Path) -> None:
    """The expected values were compared with those that llama.cpp's convert_hf_to_gguf.py writes."""
    values = metadata(write(tiny, "q5_1").file)
    assert (len(values.pop("tokenizer.ggml.tokens")), len(values.pop("tokenizer.ggml.token_type"))) == (311, 311)
    merges = (tiny / "merges.txt").read_text().splitlines()[1:]
    assert values == {
        "general.architecture": "gpt2",
        "general.type": "model",
        "general.name": "tiny",
        "general.size_label": "31K",
        "general.file_type": gguf.LlamaFileType.MOSTLY_Q5_1,
        "general.quantization_version": 2,
        "gpt2.attention.head_count": 3,
        "gpt2.attention.layer_norm_epsilon": np.float32(3e-2),
        "gpt2.block_count": 3,
        "gpt2.context_length": 67,
        "gpt2.embedding_length": 24,
        "gpt2.feed_forward_length": 96,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.ggml.bos_token_id": 299,
        "tokenizer.ggml.eos_token_id": 299,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.unknown_token_id": 299,
    }


def test_tokens_have_their_types(tiny: Path) -> None:
    added = {"<speaker1>": 300, "<pad>": 301}
    (tiny / "tokenizer.json").unlink()
    (tiny / "added_tokens.json").write_text(json.dumps(added))
    (tiny / "special_tokens_map.json").write_text('{"pad_token": "<pad>"}')
    (tiny / "tokenizer_config.json").write_text('{"add_bos_token": true}')
    (tiny / "chat_template.jinja").write_text("{{ messages }}")
    file = write(tiny).file
    values = metadata(file)
    kinds = gguf.TokenType
    tokens, types = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    vocab = json.loads((tiny / "vocab.json").read_text())
    assert tokens[:300] == sorted(vocab, key=lambda token: vocab[token])
    assert tokens[300:303] == ["<speaker1>", "<pad>", "[PAD302]"]
    assert types == [kinds.NORMAL] * 299 + [kinds.CONTROL, kinds.USER_DEFINED, kinds.CONTROL] + [kinds.UNUSED] * 9
    assert values["tokenizer.ggml.padding_token_id"] == 301
    assert values["tokenizer.ggml.add_bos_token"] is True
    assert values["tokenizer.chat_template"] == "{{ messages }}"
    before, after = load_checkpoint(tiny).tokenizer, load_checkpoint(file).tokenizer
    for text in ("<speaker1> Good  day<speaker1>\n\n🌍", "a<|endoftext|>b", " quick"):
        assert after.encode(text) == before.encode(text), text
    assert after.vocab == before.vocab


@pytest.mark.parametrize(
    ("eos", "written", "note"),
    [
        (299, 299, ""),
        ([5, 299], 5, "GGUF holds one end-of-text id: 5 of [5, 299]."),
        (None, None, "The model has no end-of-text token; llama.cpp assumes"),
    ],
)
def test_end_of_text_id_is_written_or_noted(tiny: Path, eos: object, written: object, note: str) -> None:
    (tiny / "generation_config.json").unlink()
    edit_config(tiny, eos_token_id=eos)
    done = write(tiny)
    assert metadata(done.file).get("tokenizer.ggml.eos_token_id") == written
    assert " ".join(done.notes).startswith(note)
    assert bool(done.notes) == bool(note)


def test_special_ids_come_from_the_tokenizer_without_a_config(tmp_path: Path) -> None:
    values = metadata(convert_to_gguf(llmc(tmp_path).path, tmp_path / "new.gguf").file)
    assert (values["tokenizer.ggml.bos_token_id"], values["tokenizer.ggml.eos_token_id"]) == (299, 299)


def test_conversion_is_deterministic_and_reports_progress(tiny: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    one = convert_to_gguf(tiny, tmp_path / "a.gguf", "q8_0", progress=lambda done, total: calls.append((done, total)))
    two = convert_to_gguf(tiny, tmp_path / "b.gguf", "q8_0")
    assert one.file.read_bytes() == two.file.read_bytes()
    assert calls == sorted(calls)
    assert {total for _, total in calls} == {calls[-1][0]}
    assert calls[-1][0] == sum(tensor.n_bytes for tensor in tensors(one.file).values())


def test_quantised_source_of_another_type_is_dequantised(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "q4.gguf", linear_state(n_embd=96), quantised=GGMLQuantizationType.Q4_0)
    stored = {name: tensor.data for name, tensor in tensors(source).items()}
    done = convert_to_gguf(source, tmp_path / "new.gguf", "q8_0")
    rows = gguf.quants.dequantize(stored["blk.1.ffn_up.weight"], GGMLQuantizationType.Q4_0)
    expected = gguf.quants.quantize(rows, GGMLQuantizationType.Q8_0)
    assert tensors(done.file)["blk.1.ffn_up.weight"].data.tobytes() == expected.tobytes()
    assert done.dequantised["blk.1.ffn_up.weight"] == "Q4_0, dequantised"


@pytest.mark.parametrize("type_", [None, "q8_0"])
def test_blocks_of_the_same_type_are_copied(tmp_path: Path, type_: str | None) -> None:
    """The largest quant of these blocks is not 127, so that quantising the dequantised values would change them."""
    q8_0, name = GGMLQuantizationType.Q8_0, "blk.1.ffn_down.weight"
    rows = random_blocks(q8_0, {0: 1e-3}, seed=0)
    rows[:, 2:] = rows[:, 2:].view(np.int8) // 2
    assert gguf.quants.quantize(gguf.quants.dequantize(rows, q8_0), q8_0).tobytes() != rows.tobytes()
    writer = writer_of({name: (rows, q8_0)})
    source = write_gguf(tmp_path / "source.gguf", linear_state(n_inner=32), make_writer=writer)
    done = convert_to_gguf(source, tmp_path / "new.gguf", type_)
    assert tensors(done.file)[name].data.tobytes() == rows.tobytes()
    assert done.types["blk.0.ffn_down.weight"] == ("F32" if type_ is None else "Q8_0")
    assert done.dequantised == {}


def test_k_quants_are_copied(tmp_path: Path) -> None:
    q4_k = GGMLQuantizationType.Q4_K
    rows = random_blocks(q4_k, {0: 5e-4, 2: 1e-2}, seed=0)
    writer = writer_of({"blk.1.ffn_down.weight": (rows, q4_k)})
    source = write_gguf(tmp_path / "source.gguf", linear_state(n_inner=256), make_writer=writer)
    done = convert_to_gguf(source, tmp_path / "new.gguf")
    found = tensors(done.file)["blk.1.ffn_down.weight"]
    assert (found.tensor_type, found.data.tobytes()) == (q4_k, rows.tobytes())
    assert (done.type, done.dequantised) == ("mixed", {})
    assert "general.file_type" not in metadata(done.file)


def test_tied_head_of_a_narrow_file_is_wte(tiny: Path) -> None:
    plan = inspect_checkpoint(tiny)[2]
    types = tensor_types(plan, "q4_0")
    assert HEAD not in types
    edit_weights(tiny, lambda state: state.update({HEAD: state["transformer.wte.weight"] + np.float32(1)}))
    types = tensor_types(inspect_checkpoint(tiny)[2], "q4_0")
    assert types[HEAD] == "F16"  # rows of 24
