"""Record what the demo checkpoint generates: `python -m tests.regression.demo_record` rewrites demo_record.json.

Rewrite it only when the output is meant to change, and say so in the commit; --keys rewrites only the JSON keys of the
commands. Floats are compared with a tolerance, not bitwise: the kernels sum dot products in vectors as wide as the
processor supports, so rounding differs between AVX2 and AVX-512. No recorded token depends on the rounding: the builtin
kernels generate the same tokens, and so do logits with random errors of 1e-4.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from max_gpt2 import GPT2

RECORD = Path(__file__).with_name("demo_record.json")
PROMPTS = [
    "It was a pleasure to",
    "",
    "Mr. Darcy said",
    'naïve 🌍\n\n"Oh!"',
    "The house was very large, and the garden " * 4,
]
SAMPLING: list[dict[str, Any]] = [
    {"temperature": 1.0},
    {"temperature": 1.7, "top_k": 40},
    {"top_p": 0.9},
    {"min_p": 0.05, "temperature": 1.3},
    {"repetition_penalty": 1.3},
    {"presence_penalty": 1.5, "frequency_penalty": -0.5},
    {"no_repeat_ngram_size": 2, "temperature": 0},
    {"logit_bias": {12: 5.0, 257: -100.0}},
    {"bad_words": [[11], [257, 300]]},
    {"min_new_tokens": 20, "temperature": 1.5},
    {"stop": [" the", "\n\n"]},
    {"max_new_tokens": 60, "temperature": 1.6, "seed": 4},
]
BEAMS: list[dict[str, Any]] = [
    {},
    {"num_beams": 2, "length_penalty": 2.0, "early_stopping": True},
    {"num_beams": 3, "no_repeat_ngram_size": 2, "repetition_penalty": 1.2, "min_new_tokens": 4},
]
SCORED = ["It was a pleasure to see you.", "naïve 🌍"]
#: Prompt lengths below and above the limits between GEMV and GEMM and between block sizes.
LENGTHS = (1, 7, 49, 130)
#: Commands that print JSON; {new} is a path that does not exist, {lines} a file of prompts.
COMMANDS = {
    "info": ["info"],
    "generate": ["generate", "It", "--max-new-tokens", "2", "--logprobs", "1"],
    "generate --n": ["generate", "It", "--max-new-tokens", "2", "--n", "2"],
    "generate --input": ["generate", "--input", "{lines}", "--output", "{new}.jsonl", "--max-new-tokens", "2"],
    "beams": ["beams", "It", "--max-new-tokens", "2"],
    "score": ["score", "It is"],
    "score --input": ["score", "--input", "{lines}"],
    "convert": ["convert", "demo", "{new}"],
    "convert --to gguf": ["convert", "demo", "{new}.gguf", "--to", "gguf", "--type", "q4_0"],
    "compare-weights": ["compare-weights", "demo", "--weights", "q8_0", "--max-tokens", "20"],
    "doctor": ["doctor"],
    "warmup": ["warmup"],
}
#: Objects with keys that are data, such as file names or token ids.
OPEN_OBJECTS = {
    "top",
    "files",
    "needed",
    "fits",
    "skipped",
    "upcast",
    "dequantised",
    "rounded",
    "zero_filled",
    "types",
    "other_types",
}


def generated(gpt2: GPT2) -> dict[str, Any]:
    """Return the ids, texts, log probabilities and logits recorded in `demo_record.json`."""
    rng = np.random.default_rng(7)
    logits = {length: gpt2.engine.model.logits(rng.integers(0, 4096, (1, length)))[0, -1] for length in LENGTHS}
    greedy = gpt2.generate(PROMPTS, max_new_tokens=24, temperature=0)
    sampled = [gpt2.generate(PROMPTS[2], **({"max_new_tokens": 24, "seed": 1} | options)) for options in SAMPLING]
    beams = [gpt2.beam_search(PROMPTS[0], max_new_tokens=10, **options) for options in BEAMS]
    scores = [gpt2.score(text, bos=False) for text in SCORED]
    stream = list(gpt2.stream(PROMPTS[3], max_new_tokens=40, temperature=1.9, seed=5))
    return {
        "greedy": [{"tokens": one.tokens, "text": one.text} for one in greedy],
        "sampled": [{"tokens": one.tokens, "text": one.text, "end": one.finish_reason} for one in sampled],
        "stream": stream,
        "beams": [
            [{"tokens": one.tokens, "logprob": one.logprob, "score": one.score} for one in found] for found in beams
        ],
        "scores": [
            {"logprobs": [row["logprob"] for row in one.rows()], "logprob": one.logprob, "perplexity": one.perplexity}
            for one in scores
        ],
        "logits": {
            str(length): {"argmax": int(row.argmax()), "first": row[:4].tolist(), "norm": float(np.linalg.norm(row))}
            for length, row in logits.items()
        },
    }


def json_keys(name: str, folder: Path, run: Callable[[list[str]], str]) -> list[str]:
    """Return the paths of the keys in the JSON that one of `COMMANDS` prints; `run` returns its standard output."""
    lines = folder / "lines.txt"
    lines.write_text("It was\nShe had\n")
    arguments = [one.format(new=folder / "new", lines=lines) for one in COMMANDS[name]]
    return key_paths(json.loads(run([*arguments, "--json"])))


def key_paths(value: Any) -> list[str]:
    """Return the path of each key in JSON values once, such as `prompts[].name`."""
    return sorted(set(_paths(value, "")))


def _paths(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield path + name
            if name not in OPEN_OBJECTS:
                yield from _paths(one, f"{path}{name}.")
    elif isinstance(value, list):
        for one in value:
            yield from _paths(one, f"{path.removesuffix('.')}[].")


def rounded(value: Any) -> Any:
    """Return JSON values with floats of seven digits, which keeps the file small."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def _run(arguments: list[str]) -> str:
    command = [sys.executable, "-m", "max_gpt2", *arguments]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}
    )
    return done.stdout


def _text(value: Any) -> str:
    """Return a record as JSON with one line per element of each part."""
    parts = []
    for name, part in value.items():
        if isinstance(part, dict):
            lines = [f"{json.dumps(key)}: {json.dumps(one, ensure_ascii=False)}" for key, one in part.items()]
        else:
            lines = [json.dumps(one, ensure_ascii=False) for one in part]
        opening, closing = "{}" if isinstance(part, dict) else "[]"
        parts.append(f"{json.dumps(name)}: {opening}\n" + ",\n".join(lines) + f"\n{closing}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Write the record of the current code; with --keys, only the JSON keys, after a key was renamed."""
    if sys.argv[1:] == ["--keys"]:
        record = json.loads(RECORD.read_text())
    else:
        record = rounded(generated(GPT2.from_pretrained("demo")))
    keys = {}
    for name in COMMANDS:
        with tempfile.TemporaryDirectory() as folder:
            keys[name] = json_keys(name, Path(folder), _run)
    keys["verify"] = key_paths(json.loads(_run(["verify", "--json"])))
    RECORD.write_text(_text(record | {"json_keys": keys}))


if __name__ == "__main__":
    main()
