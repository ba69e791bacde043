"""The changes that the original page needs on MAX 26.7: the book shows them and a test applies them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """A replacement in the code of the page, and the reason for it."""

    before: str
    after: str
    reason: str


#: The changes for every checkpoint.
CHANGES = (
    Change(
        "from max.nn.module_v3 import Linear",
        "from max.experimental.nn import Linear",
        "MAX moved the module.",
    ),
    Change(
        "from solutions.solution_13 import MaxGPT2LMHeadModel",
        "from solutions.pretrained import transpose_conv1d\nfrom solutions.solution_13 import MaxGPT2LMHeadModel",
        "The next change needs this function.",
    ),
    Change(
        "max_model.load_state_dict(torch_model.state_dict())",
        "max_model.load_state_dict(transpose_conv1d(torch_model.state_dict()))",
        "Loading is strict, so the weights of Conv1D layers have to be transposed before it.",
    ),
    Change(
        "max_model.descendents",
        "max_model.descendants",
        "MAX corrected the spelling.",
    ),
    Change(
        "child.weight = child.weight.T",
        "pass  # transposed before loading",
        "The weights are transposed by now. After loading it would be too late, and MAX would compile each transpose.",
    ),
)

#: The changes for the demo checkpoint, in addition to the others.
DEMO_CHANGES = (
    Change(
        'GPT2Tokenizer.from_pretrained("gpt2")',
        'GPT2Tokenizer.from_pretrained("src/max_gpt2/demo")',
        "The tokenizer of the demo.",
    ),
    Change(
        'GPT2LMHeadModel.from_pretrained("gpt2")',
        'GPT2LMHeadModel.from_pretrained("src/max_gpt2/demo", dtype="float32")',
        "The demo stores 16-bit numbers, and transformers 5 would also compute with 16 bits.",
    ),
    Change(
        'GPT2LMHeadModel.from_pretrained("gpt2-medium")',
        'GPT2LMHeadModel.from_pretrained("src/max_gpt2/demo", dtype="float32")',
        "The same in the example of another size.",
    ),
    Change(
        "config = GPT2Config()",
        "config = GPT2Config(vocab_size=4096, n_positions=256, n_embd=256, n_layer=6, n_head=8)",
        "The defaults are the sizes of `gpt2`.",
    ),
    Change(
        "config.n_embd = 1024\nconfig.n_layer = 24\nconfig.n_head = 16\nconfig.n_inner = 4096",
        "config.n_embd = 256\nconfig.n_layer = 6\nconfig.n_head = 8\nconfig.n_inner = 1024",
        "The sizes of the demo instead of those of `gpt2-medium`.",
    ),
)


def apply(changes: tuple[Change, ...], code: str) -> str:
    """Return the code with all changes made."""
    for change in changes:
        code = code.replace(change.before, change.after)
    return code


def table(changes: tuple[Change, ...]) -> str:
    """Return the changes as a Markdown table."""
    rows = [f"| {_cell(change.before)} | {_cell(change.after)} | {change.reason} |" for change in changes]
    return "\n".join(["| on the page | on MAX 26.7 | reason |", "|---|---|---|", *rows])


def _cell(code: str) -> str:
    """Return lines of code as the text of a table cell."""
    return "<br>".join(f"`{line}`" for line in code.splitlines())
