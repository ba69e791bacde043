import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from max_gpt2.checkpoint import LoadOptions, inspect_checkpoint, load_checkpoint
from max_gpt2.checkpoint.formats import huggingface as safetensors_file
from max_gpt2.errors import CheckpointError


def refusal(path: Path, allow_pickle: bool = False) -> str:
    with pytest.raises(CheckpointError) as caught:
        inspect_checkpoint(path, LoadOptions(allow_pickle=allow_pickle))
    return str(caught.value)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.gguf", "ckpt.pt", "model.onnx"])
def test_safetensors_is_read_whatever_its_name(tiny: Path, name: str) -> None:
    file = (tiny / "model.safetensors").rename(tiny / name)
    for path in (file, tiny):
        plan = inspect_checkpoint(path)[2]
        assert plan.format == "Hugging Face safetensors"
        assert (plan.transposed, plan.head) == ([], "tied")
    assert load_checkpoint(file).folder == tiny


@pytest.mark.parametrize(
    ("name", "content", "says", "remedy"),
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
def test_what_is_not_read_is_named(tiny: Path, name: str, content: bytes, says: str, remedy: str) -> None:
    (tiny / "model.safetensors").unlink()
    (tiny / name).write_bytes(content)
    for path in (tiny, tiny / name):
        message = refusal(path, allow_pickle=True)
        assert f"{name} is {says}" in message
        assert "which is not supported" in message
        assert remedy in message


def test_what_is_read_comes_before_what_is_not(tiny: Path) -> None:
    (tiny / "tf_model.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tiny / "model.onnx").write_bytes(b"\x08\x07")
    (tiny / "pytorch_model.bin").write_bytes(b"\x80\x02 a pickle")
    assert inspect_checkpoint(tiny)[2].format == "Hugging Face safetensors"


def test_an_index_can_be_given_itself(tiny: Path) -> None:
    names = list(load_file(tiny / "model.safetensors"))
    index = tiny / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "model.safetensors")}))
    assert inspect_checkpoint(index)[2].format == "Hugging Face safetensors, 1 shard"


@pytest.mark.parametrize("content", [b"nothing that is known", b"PK\x03\x04 a zip of something", b"\x08\x07"])
def test_what_is_unknown_is_said_to_be(tiny: Path, content: bytes) -> None:
    (tiny / "model.safetensors").write_bytes(content)
    message = refusal(tiny, allow_pickle=True)
    assert "does not start as a file of safetensors, PyTorch, llm.c, GGUF does" in message


class TestSafetensorsHeader:
    def write(self, folder: Path, header: bytes, data: bytes = b"") -> None:
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + data)

    def test_a_tensor_that_is_named_twice(self, tiny: Path) -> None:
        content = (tiny / "model.safetensors").read_bytes()
        size = int.from_bytes(content[:8], "little")
        header, data = content[8 : 8 + size].rstrip(), content[8 + size :]
        bias = json.dumps(json.loads(header)["transformer.ln_f.bias"])
        self.write(tiny, header[:-1] + f',"transformer.ln_f.bias":{bias}}}'.encode(), data)
        assert load_file(tiny / "model.safetensors")["transformer.ln_f.bias"].shape == (24,)  # the library is content
        assert "'transformer.ln_f.bias' twice in its header" in refusal(tiny)

    def test_a_key_of_a_tensor_that_is_there_twice(self, tiny: Path) -> None:
        content = (tiny / "model.safetensors").read_bytes()
        size = int.from_bytes(content[:8], "little")
        header = content[8 : 8 + size].replace(b'"dtype":"F32"', b'"dtype":"F32","dtype":"F32"', 1)
        self.write(tiny, header, content[8 + size :])
        assert "'dtype' twice" in refusal(tiny)

    def test_a_header_that_is_too_large(self, tiny: Path) -> None:
        with (tiny / "model.safetensors").open("wb") as file:
            file.write(struct.pack("<Q", safetensors_file.LARGEST_HEADER + 1) + b"{")
            file.truncate(safetensors_file.LARGEST_HEADER + 100)
        assert "100,000,001 bytes, over 100 MB" in refusal(tiny)

    @pytest.mark.parametrize(
        "header", [b'{"\xff\xfe": 3}', b'{"a": }', b"{", b"{" + b'"a":[' * 100_000, b'{"a": 1} and more']
    )
    def test_a_header_that_is_no_json_in_utf_8(self, tiny: Path, header: bytes) -> None:
        self.write(tiny, header)
        assert "truncated or damaged" in refusal(tiny)

    def test_a_header_of_something_else(self, tiny: Path) -> None:
        self.write(tiny, b'{"a": 1}')
        assert "truncated or damaged" in refusal(tiny)

    def test_a_good_one(self, tiny: Path) -> None:
        save_file({"a": np.zeros(3, np.float32)}, tiny / "model.safetensors")
        assert "too few for 3 layers" in refusal(tiny)
