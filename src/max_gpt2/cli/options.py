"""Options that several commands share, and what they are read as."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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

# Its values are spelled out, as model.Kernels has them: importing the model takes a second.
WhichKernels = Annotated[
    Literal["mojo", "builtin"],
    typer.Option("--kernels", help="Compute with max-gpt2's own Mojo kernels, or with MAX's operations."),
]


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


def biases(given: list[str] | None) -> dict[int, float]:
    """Return what --logit-bias adds to which ids; raises RequestError unless each is ID=NUMBER."""
    found = {}
    for one in given or []:
        try:
            id_, number = one.split("=")
            found[int(id_)] = float(number)
        except ValueError as error:
            raise RequestError(f"--logit-bias {one!r} is not an id and a number. Write them as 50256=-2.5.") from error
    return found


def bans(given: list[str] | None, tokenizer: "GPT2Tokenizer") -> list[list[int]]:
    """Return the ids of the texts of --bad-words, both as they are and after a space."""
    if not all(given or []):
        raise RequestError("A text of --bad-words is empty. Leave it out.")
    texts = [text for one in given or [] for text in dict.fromkeys([one, " " + one.lstrip(" ")])]
    return [tokenizer.encode(text) for text in texts]


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


def print_json(facts: dict[str, Any]) -> None:
    """Print the one object of --json."""
    from max_gpt2._files import json_text

    print(json_text(facts))
