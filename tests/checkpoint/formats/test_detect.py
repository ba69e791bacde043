import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from max_gpt2.checkpoint import LoadOptions, inspect_checkpoint, load_checkpoint
from max_gpt2.checkpoint.formats import huggingface as safetensors_file
from max_gpt2.errors import CheckpointError
from tests.support.growth import assert_linear


def error_message(path: Path, allow_pickle: bool = False) -> str:
    with pytest.raises(CheckpointError) as caught:
        inspect_checkpoint(path, LoadOptions(allow_pickle=allow_pickle))
    return str(caught.value)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.gguf", "ckpt.pt", "model.onnx"])
def test_safetensors_is_detected_under_any_name(tiny: Path, name: str) -> None:
    file = (tiny / "model.safetensors").rename(tiny / name)
    for path in (file, tiny):
        plan = inspect_checkpoint(path)[2]
        assert plan.format == "Hugging Face safetensors"
        assert (plan.transposed, plan.head) == ([], "tied")
    assert load_checkpoint(file).folder == tiny


@pytest.mark.parametrize(
    ("name", "content", "expected", "remedy"),
    [
        ("model.ckpt.index", b"", "TensorFlow's checkpoint format", "transformers-cli convert --model_type gpt2"),
        ("model.ckpt.data-00000-of-00001", b"\1\2", "TensorFlow's", "--tf_checkpoint"),
        ("hparams.json", b"{}", "TensorFlow's", "--tf_checkpoint"),
        ("tf_model.h5", b"\x89HDF\r\n\x1a\n", "HDF5", "from_tf=True"),
        ("tf_model.weights", b"\x89HDF\r\n\x1a\n", "HDF5", "from_tf=True"),
        ("flax_model.msgpack", b"\x81", "msgpack", "from_flax=True"),
        ("flax_model", b"\x81\xabtransformer\x84\xa1h", "msgpack", "from_flax=True"),
        ("decoder.onnx", b"\x08\x07", "ONNX", "exported from"),
    ],
)
def test_unsupported_format_is_named_with_a_remedy(
    tiny: Path, name: str, content: bytes, expected: str, remedy: str
) -> None:
    (tiny / "model.safetensors").unlink()
    (tiny / name).write_bytes(content)
    for path in (tiny, tiny / name):
        message = error_message(path, allow_pickle=True)
        assert f"{name} is {expected}" in message
        assert "which is not supported" in message
        assert remedy in message


def test_safetensors_is_preferred_to_other_formats(tiny: Path) -> None:
    (tiny / "tf_model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tiny / "model.onnx").write_bytes(b"\x08\x07")
    (tiny / "pytorch_model.bin").write_bytes(b"\x80\x02 a pickle")
    assert inspect_checkpoint(tiny)[2].format == "Hugging Face safetensors"


def test_index_file_is_accepted_as_the_model(tiny: Path) -> None:
    names = list(load_file(tiny / "model.safetensors"))
    index = tiny / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))
    assert inspect_checkpoint(index)[2].format == "Hugging Face safetensors, 1 shard"


@pytest.mark.parametrize("content", [b"nothing that is known", b"PK\x03\x04 a zip of something", b"\x08\x07"])
def test_unknown_content_is_rejected(tiny: Path, content: bytes) -> None:
    (tiny / "model.safetensors").write_bytes(content)
    message = error_message(tiny, allow_pickle=True)
    assert "its first bytes are not those of safetensors, PyTorch, llm.c, GGUF" in message


class TestSafetensorsHeader:
    def write(self, folder: Path, header: bytes, data: bytes = b"") -> None:
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)

    def test_duplicate_tensor_is_rejected(self, tiny: Path) -> None:
        content = (tiny / "model.safetensors").read_bytes()
        size = int.from_bytes(content[:8], "little")
        header, data = content[8 : 8 + size].rstrip(), content[8 + size :]
        bias = json.dumps(json.loads(header)["transformer.ln_f.bias"])
        self.write(tiny, header[:-1] + f',"transformer.ln_f.bias":{bias}}}'.encode(), data)
        # The safetensors library accepts this file.
        assert load_file(tiny / "model.safetensors")["transformer.ln_f.bias"].shape == (24,)
        assert "'transformer.ln_f.bias' twice in its header" in error_message(tiny)

    def test_duplicate_key_of_a_tensor_is_rejected(self, tiny: Path) -> None:
        content = (tiny / "model.safetensors").read_bytes()
        size = int.from_bytes(content[:8], "little")
        header = content[8 : 8 + size].replace(b'"dtype":"F32"', b'"dtype":"F32","dtype":"F32"', 1)
        self.write(tiny, header, content[8 + size :])
        assert "'dtype' twice" in error_message(tiny)

    def test_duplicate_at_the_end_is_found_in_linear_time(self, tiny: Path) -> None:
        def header(size: int) -> bytes:
            return ("{" + ",".join(f'"{index}":0' for index in range(size)) + ',"z":0,"z":0}').encode()

        def message(content: bytes) -> None:
            self.write(tiny, content)
            assert "'z' twice" in error_message(tiny)

        assert_linear(header, message, 6_000)

    def test_oversized_header_is_rejected(self, tiny: Path) -> None:
        with (tiny / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", safetensors_file.LARGEST_HEADER + 1) + b"{")
            file.truncate(safetensors_file.LARGEST_HEADER + 100)
        assert "100,000,001 bytes, more than 100 MB" in error_message(tiny)

    @pytest.mark.parametrize(
        "header", [b'{"\xff\xfe": 3}', b'{"a": }', b"{", b"{" + b'"a":[' * 100_000, b'{"a": 1} and more']
    )
    def test_header_that_is_not_json_is_rejected(self, tiny: Path, header: bytes) -> None:
        self.write(tiny, header)
        assert "truncated or damaged" in error_message(tiny)

    def test_header_without_tensors_is_rejected(self, tiny: Path) -> None:
        self.write(tiny, b'{"a": 1}')
        assert "truncated or damaged" in error_message(tiny)

    def test_valid_header_is_accepted(self, tiny: Path) -> None:
        save_file({"a": np.zeros(3, np.float32)}, tiny / "model.safetensors")
        assert "too few for 3 layers" in error_message(tiny)
