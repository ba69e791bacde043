"""Options that several commands share, and what they are read as."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from max_gpt2.errors import RequestError

if TYPE_CHECKING:
    from max_gpt2.tokenizer import GPT2Tokenizer

Model = Annotated[str, typer.Option("--model", help='"demo", a hub id such as gpt2, a folder, or a file of weights.')]
Tokenizer = Annotated[
    str | None, typer.Option("--tokenizer", metavar="FOLDER", help="Whose tokenizer to use, for weights without one.")
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read PyTorch's .bin and .pt too, as plain tensors (needs PyTorch).")
]
AllowNonfinite = Annotated[bool, typer.Option("--allow-nonfinite", help="Load weights that are NaN or infinite.")]
PromptIds = Annotated[str | None, typer.Option("--prompt-ids", help="The text as ids: 1,2,3.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Input = Annotated[
    Path | None, typer.Option("--input", metavar="FILE", help="A text a line: .jsonl (JSON objects) or .txt.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", metavar="FILE", help="A JSON object for each line; run again to go on."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace an --output that is of another run.")]


def prompt_tokens(tokenizer: "GPT2Tokenizer", prompt: str | None, prompt_ids: str | None) -> list[int]:
    """Return the ids of a prompt that is a text, or a list of ids; raises RequestError when both are given."""
    from max_gpt2.generation import encode_prompt

    if prompt_ids is None:
        return encode_prompt(tokenizer, prompt or "")
    if prompt is not None:
        raise RequestError("There is a text and there are --prompt-ids. Give only one of them.")
    try:
        return [int(part) for part in prompt_ids.split(",")] if prompt_ids.strip() else []
    except ValueError as error:
        raise RequestError(f"--prompt-ids {prompt_ids!r} is not a list of ids. Write them as 1,2,3.") from error


def check_files(
    text: str | None, prompt_ids: str | None, source: Path | None, target: Path | None, force: bool
) -> None:
    """Raise RequestError when --input, --output and --force do not go together, or not with a text."""
    if source is not None:
        given = "a text" if text is not None else "--prompt-ids" if prompt_ids is not None else None
        if given:
            raise RequestError(f"There is {given} and there is --input. Give only one of them.")
        if target is not None and source.exists() and target.exists() and source.samefile(target):
            raise RequestError(f"--input and --output are the same file, {source}. Choose another --output.")
    elif target is not None:
        raise RequestError("--output is for the texts of an --input. Add --input FILE, or leave --output out.")
    if force and target is None:
        raise RequestError("--force replaces an --output, and there is none. Add --output FILE, or leave --force out.")
