"""A tiny checkpoint in our model for the harness and in the harness's own `hf`, and tasks of every kind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from lm_eval.models.huggingface import HFLM

from fixtures.checkpoints import edit_weights, write_checkpoint
from max_gpt2.scoring.harness import MaxGPT2LM

DOCUMENTS = [
    {
        "question": "The quick brown fox",
        "choices": [" jumps", " is lazy", " dogs, being", " é日本"],
        "gold": 0,
        "text": "The dog, being lazy, lets it.",
        "target": " lets it",
    },
    {
        "question": "Was it the ",
        "choices": ["best", "times?", "fox", "dog"],
        "gold": 1,
        "text": "lazy fox\tover it\n" * 30,
        "target": "over",
    },
    {
        "question": "lazy dog, " * 40,  # more tokens than the context has
        "choices": ["dog", "fox", "the", "a b c d e"],
        "gold": 3,
        "text": "Über <|endoftext|>\tdie Zeit 🙂 ",
        "target": "x",
    },
    {"question": "", "choices": ["A", "B", "C", "D"], "gold": 2, "text": "", "target": "The"},
]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with the compiled graph of the tiny one, whose greedy text varies and has no unknown ids."""
    folder = write_checkpoint(tmp_path_factory.mktemp("harness") / "tiny")

    def edit(tensors: dict[str, np.ndarray]) -> None:
        tensors["transformer.wte.weight"][300:] = 0  # ids that the tokenizer does not have
        tensors["transformer.wpe.weight"] *= 5

    edit_weights(folder, edit)
    return folder


@pytest.fixture(scope="session")
def ours(checkpoint: Path) -> MaxGPT2LM:
    return MaxGPT2LM(checkpoint)


@pytest.fixture(scope="session")
def theirs(checkpoint: Path) -> HFLM:
    return HFLM(pretrained=str(checkpoint), device="cpu", dtype="float32", batch_size=8)


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a YAML file for each kind of request, and a group."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "documents.jsonl").write_text("\n".join(map(json.dumps, DOCUMENTS)))
    files = {"test": str(folder / "documents.jsonl")}
    base: dict[str, Any] = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "fewshot_split": "test",
        "doc_to_text": "{{question}}",
        "target_delimiter": "",
    }
    kinds: dict[str, dict[str, Any]] = {
        "tiny_choice": {
            "output_type": "multiple_choice",
            "doc_to_target": "gold",
            "doc_to_choice": "choices",
            "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
        },
        "tiny_target": {
            "output_type": "loglikelihood",
            "doc_to_target": "{{target}}",
            "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
        },
        "tiny_text": {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "{{text}}",
            "metric_list": [{"metric": one} for one in ("word_perplexity", "byte_perplexity", "bits_per_byte")],
        },
        "tiny_generation": {
            "output_type": "generate_until",
            "doc_to_text": "It: {{question}}",
            "doc_to_target": "{{target}}",
            "generation_kwargs": {"until": ["o", "zz"], "max_gen_toks": 20, "do_sample": False},
            "metric_list": [{"metric": "exact_match"}],
        },
    }
    for name, kind in kinds.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **base, **kind}))
    accuracy = {"metric": "acc", "aggregation": "mean", "weight_by_size": True}
    group = {"group": "tiny_group", "task": ["tiny_choice", "tiny_target"], "aggregate_metric_list": [accuracy]}
    (folder / "group.yaml").write_text(yaml.safe_dump(group))
    return folder
