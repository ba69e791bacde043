"""Options that several commands share, and functions that parse and check their values."""

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from max_gpt2.errors import RequestError

if TYPE_CHECKING:
    from max_gpt2.checkpoint import Adapter
    from max_gpt2.tokenizer import GPT2Tokenizer

Model = Annotated[
    str, typer.Option("--model", help='"demo", a Hugging Face id such as gpt2, a folder, or a weights file.')
]
Tokenizer = Annotated[
    str | None,
    typer.Option("--tokenizer", metavar="FOLDER", help="Load the tokenizer from FOLDER or a hub id such as gpt2."),
]
Adapters = Annotated[
    list[str] | None,
    typer.Option("--adapter", metavar="DIR[:SCALE]", help="Merge the LoRA adapter in DIR; repeatable."),
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Load PyTorch .bin and .pt files, as plain tensors (needs PyTorch).")
]
AllowNonfinite = Annotated[bool, typer.Option("--allow-nonfinite", help="Accept weights that are NaN or infinite.")]
PromptIds = Annotated[str | None, typer.Option("--prompt-ids", help="Token ids instead of text, such as 1,2,3.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Input = Annotated[
    str | None,
    typer.Option("--input", metavar="FILES", help="Process each line or row of a file, a folder or a glob."),
]
Output = Annotated[
    str | None,
    typer.Option("--output", metavar="OUT", help="Write a .jsonl file, or a folder of parts; rerun to resume."),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an --output that belongs to a different run.")]

# The values repeat config.Kernels: typer needs a Literal at import time.
WhichKernels = Annotated[
    Literal["mojo", "builtin"],
    typer.Option("--kernels", help="Compute with max-gpt2's Mojo kernels or with MAX's built-in operations."),
]

# These repeat weights.types, which imports numpy.
WhichWeights = Annotated[
    Literal["auto", "float32", "float16", "bfloat16", "q8_0", "q6_k", "q5_k", "q5_1", "q5_0", "q4_k", "q4_1", "q4_0"],
    typer.Option("--weights", help="Type of the weights in memory; auto keeps the type that each has in the file."),
]
DEFAULT_WEIGHTS: Final = "auto"


def parse_adapters(values: list[str] | None) -> "tuple[Adapter, ...]":
    """Return the adapters of --adapter; raises RequestError for a malformed scale."""
    from max_gpt2.checkpoint import Adapter

    return tuple(map(Adapter.parse, values or []))


def prompt_tokens(tokenizer: "GPT2Tokenizer", prompt: str | None, prompt_ids: str | None) -> list[int]:
    """Return the token ids of a prompt or of a comma-separated list of ids.

    Raises RequestError when both are given or when the list is malformed.
    """
    from max_gpt2.generation import encode_prompt

    if prompt_ids is None:
        return encode_prompt(tokenizer, prompt or "")
    if prompt is not None:
        raise RequestError("Both a text and --prompt-ids are given. Give only one of them.")
    return parse_ids("--prompt-ids", prompt_ids)


def parse_ids(option: str, value: str | None) -> list[int]:
    """Return a comma-separated list of ids; raises RequestError, which names the option, when it is malformed."""
    try:
        return [int(part) for part in value.split(",")] if value and value.strip() else []
    except ValueError as error:
        raise RequestError(f"{option} {value!r} is not a list of ids. Write them as 1,2,3.") from error


def report_start(tokenizer: "GPT2Tokenizer", prompt: str | None, prompt_ids: str | None) -> None:
    """Print on standard error which token an empty prompt starts with; print nothing for other prompts."""
    if not prompt and prompt_ids is None:
        name = tokenizer.token(tokenizer.start_id)
        print(f"The prompt is empty; generation starts from {name}.", file=sys.stderr)


def parse_logit_bias(values: list[str] | None) -> dict[int, float]:
    """Return the bias per token id; raises RequestError unless each value is ID=NUMBER."""
    biases = {}
    for value in values or []:
        try:
            id_, number = value.split("=")
            biases[int(id_)] = float(number)
        except ValueError as error:
            raise RequestError(f"--logit-bias {value!r} is not ID=NUMBER. Write it as 50256=-2.5.") from error
    return biases


def encode_bad_words(words: list[str] | None, tokenizer: "GPT2Tokenizer") -> list[list[int]]:
    """Return the token ids of the words of --bad-words; raises RequestError when a word is empty."""
    from max_gpt2.generation import encode_words

    if not all(words or []):
        raise RequestError("--bad-words is empty. Give the text to exclude.")
    return [ids for word in words or [] for ids in encode_words(tokenizer, word)]


def check_files(text: str | None, prompt_ids: str | None, source: str | None, target: str | None, force: bool) -> None:
    """Raise RequestError when --input, --output and --force conflict with each other or with a prompt."""
    if source is not None:
        given = "a text" if text is not None else "--prompt-ids" if prompt_ids is not None else None
        if given:
            raise RequestError(f"Both {given} and --input are given. Give only one of them.")
        if target is not None and os.path.realpath(source) == os.path.realpath(target):
            raise RequestError(f"--input and --output are the same file, {source}. Choose another --output.")
    elif target is not None:
        raise RequestError("--output needs --input. Add --input FILE, or remove --output.")
    if force and target is None:
        raise RequestError("--force needs --output. Add --output FILE, or remove --force.")


def check_columns(source: str | None, text_column: str | None, id_column: str | None) -> None:
    """Raise RequestError for --text-column or --id-column without --input."""
    for option, column in (("--text-column", text_column), ("--id-column", id_column)):
        if column is not None and source is None:
            raise RequestError(f"{option} needs --input. Add --input FILE, or remove {option}.")


def print_json(values: dict[str, Any]) -> None:
    """Print a dictionary as one line of JSON."""
    from max_gpt2._files import json_text

    print(json_text(values))
