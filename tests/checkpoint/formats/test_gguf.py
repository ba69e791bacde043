import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType

from fixtures.checkpoints import (
    TEXT,
    Tensors,
    as_linear,
    assert_same,
    conv1d_weights,
    random_ids,
    reference_logits,
    reference_model,
)
from fixtures.formats import EPSILON, linear_state, llama_writer, write_gguf
from max_gpt2.checkpoint import LoadOptions, inspect_checkpoint, load_checkpoint
from max_gpt2.errors import MaxGPT2Error, TokenizerError
from max_gpt2.tokenizer import GPT2Tokenizer
from max_gpt2.verify.models import TorchImplementation

WTE = "transformer.wte.weight"
SQUARE = "transformer.h.1.attn.c_proj.weight"
FLOAT32 = LoadOptions(weights="float32")
#: Rows of a multiple of 32 values, as Q8_0 and the other simple types need.
WIDE = {"n_embd": 96, "n_layer": 2}


@pytest.fixture(scope="module")
def weights() -> Tensors:
    return linear_state()


@pytest.fixture(scope="module")
def wide() -> Tensors:
    return linear_state(**WIDE)


@pytest.fixture
def file(tmp_path: Path, weights: Tensors) -> Path:
    return write_gguf(tmp_path / "gpt2.gguf", weights)


def error_message(path: Path, load: Callable[[Path], object] = load_checkpoint) -> str:
    with pytest.raises(MaxGPT2Error) as caught:
        load(path)
    return str(caught.value)


def test_logits_match_transformers(file: Path, weights: Tensors) -> None:
    checkpoint = load_checkpoint(file)
    model = reference_model(layer_norm_epsilon=EPSILON)
    assert_same(as_linear(checkpoint.state_dict), weights, atol=0)
    assert_same(checkpoint.state_dict, conv1d_weights(model))
    ids = random_ids(2, 67)
    np.testing.assert_allclose(
        TorchImplementation(checkpoint).logits(ids), reference_logits(model, ids), rtol=0, atol=1e-5
    )
    plan, config = checkpoint.plan, checkpoint.config
    assert (plan.format, plan.head, plan.dequantised) == ("GGUF", "tied", {})
    assert len(plan.transposed) == 12
    assert config.layer_norm_epsilon == EPSILON
    assert config.eos_token_ids == (299,)
    assert (config.n_inner, config.activation_function) == (96, "gelu_new")


def test_square_c_proj_is_transposed(file: Path, weights: Tensors) -> None:
    assert not np.allclose(weights[SQUARE], weights[SQUARE].T)
    np.testing.assert_array_equal(load_checkpoint(file).state_dict[SQUARE], weights[SQUARE].T)


def test_gguf_is_detected_in_a_folder_under_any_name(file: Path) -> None:
    other = file.rename(file.parent / "model.safetensors")
    assert inspect_checkpoint(other.parent)[2].format == "GGUF"


@pytest.mark.parametrize("kind", [GGMLQuantizationType.F16, GGMLQuantizationType.BF16])
def test_half_precision_is_upcast_exactly(tmp_path: Path, weights: Tensors, kind: GGMLQuantizationType) -> None:
    checkpoint = load_checkpoint(write_gguf(tmp_path / "gpt2.gguf", weights, quantised=kind), FLOAT32)
    plan, state_dict = checkpoint.plan, checkpoint.state_dict
    if kind == GGMLQuantizationType.F16:
        np.testing.assert_array_equal(state_dict[SQUARE], weights[SQUARE].T.astype(np.float16).astype(np.float32))
    else:
        assert not (state_dict[SQUARE].view(np.uint32) & 0xFFFF).any()
        np.testing.assert_allclose(state_dict[SQUARE], weights[SQUARE].T, rtol=2**-8)
    assert "blk.1.attn_output.weight" in plan.upcast
    assert "output_norm.weight" not in plan.upcast
    assert plan.dequantised == {}
    np.testing.assert_array_equal(state_dict["transformer.ln_f.bias"], weights["transformer.ln_f.bias"])


def test_q8_0_is_dequantised_with_one_scale_per_32_values(tmp_path: Path, wide: Tensors) -> None:
    file = write_gguf(tmp_path / "gpt2.gguf", wide, quantised=GGMLQuantizationType.Q8_0)
    checkpoint = load_checkpoint(file, FLOAT32)
    state_dict = as_linear(checkpoint.state_dict)
    for name, value in wide.items():
        if value.ndim == 2:
            stored = gguf.quants.quantize(value, GGMLQuantizationType.Q8_0).reshape(-1, 34)
            scales = stored[:, :2].copy().view(np.float16).astype(np.float32)
            expected = (scales * stored[:, 2:].view(np.int8)).reshape(value.shape)
            np.testing.assert_array_equal(state_dict[name], expected, err_msg=name)
    assert checkpoint.plan.dequantised["blk.1.attn_output.weight"] == "Q8_0, dequantised to float32"
    assert len(checkpoint.plan.dequantised) == 2 + 2 * 4
    assert checkpoint.plan.dtypes == ["F32", "Q8_0"]
    assert checkpoint.plan.upcast == []


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "MXFP4"])
def test_quantised_type_matches_the_gguf_package(tmp_path: Path, wide: Tensors, name: str) -> None:
    kind = GGMLQuantizationType[name]
    checkpoint = load_checkpoint(write_gguf(tmp_path / "gpt2.gguf", wide, quantised=kind), FLOAT32)
    expected = gguf.quants.dequantize(gguf.quants.quantize(wide[SQUARE], kind), kind)
    np.testing.assert_array_equal(checkpoint.state_dict[SQUARE], expected.T)
    assert np.corrcoef(expected.ravel(), wide[SQUARE].ravel())[0, 1] > 0.95
    assert checkpoint.plan.dequantised["token_embd.weight"] == f"{name}, dequantised to float32"


@pytest.mark.parametrize("name", ["Q6_K", "Q4_K", "IQ4_XS"])
def test_types_with_blocks_of_256_values_are_dequantised(tmp_path: Path, name: str) -> None:
    weights = linear_state(n_embd=256, n_layer=1, n_head=4)
    kind = GGMLQuantizationType[name]
    file = tmp_path / "gpt2.gguf"
    rows = np.random.default_rng(3).integers(0, 50, (256, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8)
    square = "transformer.h.0.attn.c_proj.weight"
    write_gguf(file, weights, 4, blocks={square: (rows, kind)})
    checkpoint = load_checkpoint(file, FLOAT32)
    assert checkpoint.plan.dequantised == {"blk.0.attn_output.weight": f"{name}, dequantised to float32"}
    np.testing.assert_array_equal(checkpoint.state_dict[square], gguf.quants.dequantize(rows, kind).T)


def test_stored_head_is_untied_unless_equal_to_wte(tmp_path: Path, weights: Tensors) -> None:
    head = np.random.default_rng(0).standard_normal((311, 24), dtype=np.float32)
    for value, tied in ((head, False), (weights[WTE], True)):
        file = tmp_path / f"{tied}.gguf"
        renamed = {name.replace("lm_head", "output"): one for name, one in weights.items()}
        write_gguf(file, renamed | {"output.weight": value}, tokenizer=False)
        assert inspect_checkpoint(file)[2].tied == tied


class TestTokenizer:
    """The tokenizer stored in the file."""

    def test_embedded_tokenizer_matches_the_original(self, file: Path) -> None:
        ours = load_checkpoint(file).tokenizer
        theirs = GPT2Tokenizer.from_folder(file.parent / "tokenizer-scratch", 311)
        for text in (TEXT, "Ça va? 🌍", "a<|endoftext|>b", ""):
            assert ours.encode(text) == theirs.encode(text)
            assert ours.decode(ours.encode(text)) == text
        assert ours.end_of_text == 299
        assert ours.decode([299]) == ""
        assert ours.size == 300  # padding of the vocabulary is not a token

    def test_tokenizer_option_overrides_the_file(self, file: Path) -> None:
        (file.parent / "tokenizer-scratch" / "tokenizer.json").write_text("{}")
        with pytest.raises(TokenizerError, match="is not a tokenizer"):
            load_checkpoint(file, LoadOptions(tokenizer=file.parent / "tokenizer-scratch"))

    def test_tokenizer_beside_the_file_is_used_if_there_is_none_inside(
        self, tmp_path: Path, weights: Tensors, tiny_original: Path
    ) -> None:
        file = write_gguf(tmp_path / "gpt2.gguf", weights, tokenizer=False)
        with pytest.raises(TokenizerError, match=r"has no tokenizer.*--tokenizer FOLDER"):
            load_checkpoint(file)
        assert load_checkpoint(file, LoadOptions(tokenizer=tiny_original)).tokenizer.size == 300
        (tmp_path / "tokenizer.json").write_bytes((tiny_original / "tokenizer.json").read_bytes())
        assert load_checkpoint(file).tokenizer.size == 300

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            (b"gpt-2", b"llama", "with the pre-tokenizer 'llama', not GPT-2's"),
            (struct.pack("<Q", 4) + b"gpt2\x12", struct.pack("<Q", 4) + b"bert\x12", "is 'bert'"),
            (b"tokenizer.ggml.merges", b"tokenizer.ggml.nerges", ""),
        ],
    )
    def test_other_tokenizer_models_are_rejected(self, file: Path, old: bytes, new: bytes, expected: str) -> None:
        content = file.read_bytes()
        assert content.count(old) == 1
        file.write_bytes(content.replace(old, new))
        if expected:
            assert expected in error_message(file)
        else:  # without merges, every byte is a token
            assert len(load_checkpoint(file).tokenizer.encode("the dog")) == 7

    def test_user_defined_and_control_tokens_are_added(self, tmp_path: Path, weights: Tensors) -> None:
        class Typed(gguf.GGUFWriter):
            def add_token_types(self, types: Sequence[int]) -> None:
                changed = list(types)
                changed[297], changed[298] = gguf.TokenType.USER_DEFINED, gguf.TokenType.CONTROL
                super().add_token_types(changed)

        ours = load_checkpoint(write_gguf(tmp_path / "gpt2.gguf", weights, make_writer=Typed)).tokenizer
        user_defined, control = (next(token for token, id_ in ours.vocab.items() if id_ == one) for one in (297, 298))
        assert ours.encode(f"a{user_defined}b") == [*ours.encode("a"), 297, *ours.encode("b")]
        assert 298 not in ours.encode(control)
        assert ours.decode([298]) == ""

    @pytest.mark.parametrize("name", ["tokens", "merges"])
    def test_numbers_instead_of_tokens_are_rejected(self, tmp_path: Path, weights: Tensors, name: str) -> None:
        class Numbers(gguf.GGUFWriter):
            def add_array(self, key: str, val: Sequence[object]) -> None:
                super().add_array(key, list(range(len(val))) if key.endswith(name) else val)

        file = tmp_path / "gpt2.gguf"
        write_gguf(file, weights, make_writer=Numbers)
        assert "is damaged" in error_message(file)


class TestDamage:
    def test_truncated_file_is_rejected(self, file: Path) -> None:
        content = file.read_bytes()
        steps = [*range(1, 400, 7), *range(400, len(content), 1999), len(content) - 64]
        for length in steps:
            file.write_bytes(content[:length])
            message = error_message(file, inspect_checkpoint)
            assert "truncated" in message, length
            if 4 <= length < 400:  # within the header
                assert f"it ends at byte {length}." in message

    def test_other_architecture_is_rejected(self, tmp_path: Path, weights: Tensors) -> None:
        write_gguf(tmp_path / "llama.gguf", weights, tokenizer=False, make_writer=llama_writer)
        assert "general.architecture is 'llama', not \"gpt2\"" in error_message(tmp_path / "llama.gguf")

    @pytest.mark.parametrize(
        ("old", "new", "expected"),
        [
            (b"GGUF", b"FUGG", "its first bytes are not those of"),
            (b"GGUF\3", b"GGUF\1", "has GGUF version 1"),
            (b"gpt2.block_count", b"gpt2.block_c0unt", "gpt2.block_count is missing"),
            (b"gpt2.context_length", b"gpt2.block_count\0\0\0", "gpt2.context_length is missing"),
            (b"token_embd.weight", b"token_embd.weighs", "no tensor token_embd.weight"),
            (b"blk.2.attn_qkv.bias", b"blk.2.attn_qkv.bits", "transformer.h.2.attn.c_attn.bias [72] is missing"),
            (b"gpt2.block_count", b"gpt2.block_c\xff\xfent", "truncated or damaged ('utf-8'"),
            (b"tokenizer.ggml.merges", b"tokenizer.ggml.tokens", "tokenizer.ggml.tokens occurs twice"),
            (b"blk.2.attn_qkv.bias", b"blk.1.attn_qkv.bias", "blk.1.attn_qkv.bias occurs twice"),
            (b"output_norm.bias", b"output_nurm.bias", "output_nurm.bias [24] does not belong to a GPT-2"),
        ],
    )
    def test_renamed_key_or_tensor_is_rejected(self, file: Path, old: bytes, new: bytes, expected: str) -> None:
        content = file.read_bytes()
        assert content.count(old) == 1
        file.write_bytes(content.replace(old, new))
        assert expected in error_message(file)

    @pytest.mark.parametrize(
        ("key", "value", "expected"),
        [
            (b"gpt2.block_count", 2, "does not belong to a GPT-2 with 2 layers"),
            (b"gpt2.block_count", 2**31, "n_layer is 2147483648, not an integer from 1 to 9999"),
            (b"gpt2.context_length", 66, "position_embd.weight is [67, 24], expected [66, 24]"),
            (b"gpt2.attention.head_count", 5, "n_embd 24 is not a multiple of n_head 5"),
            (b"gpt2.embedding_length", 0, "n_embd is 0"),
        ],
    )
    def test_wrong_metadata_is_rejected(self, file: Path, key: bytes, value: int, expected: str) -> None:
        content = bytearray(file.read_bytes())
        at = content.index(key) + len(key) + 4
        content[at : at + 4] = value.to_bytes(4, "little")
        file.write_bytes(content)
        assert expected in error_message(file)

    def tensor_info_offset(self, content: bytearray, name: bytes, dimensions: int) -> int:
        """Return the offset of a tensor's shape in the file; its type and data offset follow."""
        at = content.index(struct.pack("<Q", len(name)) + name) + 8 + len(name)
        assert content[at : at + 4] == dimensions.to_bytes(4, "little")
        return at + 4

    @pytest.mark.parametrize(
        ("at", "format_", "value", "expected"),
        [
            (0, "<Q", 25, "truncated"),
            (0, "<Q", 2**63, "truncated"),
            (0, "<Q", 23, "output_norm.bias is [23], expected [24]"),
            (8, "<I", 24, "output_norm.bias is I8, which the gguf package does not dequantise"),
            (8, "<I", 8, "is Q8_0, but its rows are not a multiple of 32"),
            (8, "<I", 999, "has the unknown type 999"),
            (12, "<Q", 0, "starts within"),
            (12, "<Q", 33, "does not start at a multiple of 32"),
            (12, "<Q", 2**60, "truncated"),
        ],
    )
    def test_wrong_tensor_info_is_rejected(self, file: Path, at: int, format_: str, value: int, expected: str) -> None:
        content = bytearray(file.read_bytes())
        start = self.tensor_info_offset(content, b"output_norm.bias", 1) + at
        content[start : start + struct.calcsize(format_)] = struct.pack(format_, value)
        file.write_bytes(content)
        assert expected in error_message(file)

    @pytest.mark.parametrize("at", [8, 16])
    @pytest.mark.parametrize("value", [2**20, 2**63])
    def test_huge_counts_are_rejected_quickly(self, file: Path, at: int, value: int) -> None:
        content = bytearray(file.read_bytes())
        content[at : at + 8] = struct.pack("<Q", value)
        file.write_bytes(content)
        assert "damaged" in error_message(file)

    @pytest.mark.parametrize("count", [2**20, 2**40, 2**63])
    def test_huge_array_length_is_rejected_quickly(self, file: Path, count: int) -> None:
        original = file.read_bytes()
        for key in (b"tokenizer.ggml.tokens", b"tokenizer.ggml.token_type"):
            content = bytearray(original)
            at = content.index(struct.pack("<Q", len(key)) + key) + 8 + len(key) + 8
            content[at : at + 8] = struct.pack("<Q", count)
            file.write_bytes(content)
            assert "truncated or damaged" in error_message(file)
