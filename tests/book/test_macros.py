"""The macros of the book include current content and fail the build if it does not exist."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from book.excerpts import BookError, between, excerpt, text_block
from book.hooks import with_mathml
from book.macros import code, fenced, figure, hints, indented, measured, mistake, page_changes, plain, transcript
from book.page_changes import CHANGES
from tests.book.conftest import build
from tests.book.pages import BOOK, PAGES, ROOT, settings
from tutorial.exercises import exercise

MLP = "solutions/solution_04.py"
KERNEL = "src/max_gpt2/model/kernels/kv_cache.mojo"


def test_excerpt_without_a_name_is_the_whole_file() -> None:
    assert excerpt(MLP) == (ROOT / MLP).read_text().strip("\n")


@pytest.mark.parametrize(
    ("path", "name", "first", "last"),
    [
        (MLP, "GPT2MLP", "class GPT2MLP(Module[[Tensor], Tensor]):", "        return self.c_proj(x)"),
        (MLP, "GPT2MLP.forward", "def forward(self, x: Tensor) -> Tensor:", "    return self.c_proj(x)"),
        ("solutions/solution_01.py", "GPT2Config", "@dataclass", "is not a multiple of n_head="),
        ("solutions/solution_01.py", "GPT2Config.n_head", "n_head: int = 12", "n_head: int = 12"),
        ("solutions/pretrained.py", "CONV1D", "#: The layers", '"mlp.c_proj.weight")'),
        ("tests/book/pages.py", "BOOK", 'BOOK = ROOT / "book"', 'BOOK = ROOT / "book"'),
        (KERNEL, "append", "def append(", "            s += 1"),
        (KERNEL, "HeadCache", "@fieldwise_init", "self.head) * self.head_dim"),
        ("src/max_gpt2/model/kernels/attention.mojo", "execute", "@staticmethod", "_attention("),
    ],
)
def test_excerpt_has_the_right_bounds(path: str, name: str, first: str, last: str) -> None:
    lines = excerpt(path, name).splitlines()
    assert lines[0].startswith(first)
    assert last in lines[-1]


def test_excerpt_includes_comments_above() -> None:
    lines = excerpt("tutorial/exercise.py", "MaxTensor").splitlines()
    assert lines[0].startswith("#: A `max.experimental.tensor.Tensor`")


def test_code_block_has_language_and_title() -> None:
    assert code(MLP).startswith(f'```python title="{MLP}"\n')
    assert code(KERNEL, "append").startswith(f'```mojo title="{KERNEL}"\n')
    assert fenced("a\n````\nb", "text") == "`````text\na\n````\nb\n`````"


def test_hints_and_diagnoses_come_from_the_exercises() -> None:
    shown = hints(4)
    assert shown.count("??? tip") == 3
    for one in exercise(4).hints:
        assert one in shown
    assert mistake(4, "relu") == "> " + exercise(4).mistakes["relu"]


def test_plain_text_is_escaped() -> None:
    assert plain("`a_b` * c_d [x] $1") == "`a_b` \\* c\\_d \\[x\\] \\$1"


def test_measurements_and_transcripts_come_from_the_docs() -> None:
    for name in ("log/performance", "sizes", "log/loading", "log/peers"):
        shown = measured(name)
        assert "<!--" not in shown
        assert shown in (ROOT / "docs" / f"{name}.md").read_text()
        assert "\n|---" in shown
    demo = transcript("demo")
    assert demo.startswith("```text\nChecking the weights")
    assert demo.removeprefix("```text\n").removesuffix("\n```") in (ROOT / "README.md").read_text()


def test_changes_of_the_page_are_a_table() -> None:
    lines = page_changes().splitlines()
    assert lines[0].count("|") == 4
    assert len(lines) == 2 + len(CHANGES)
    assert "| `max_model.descendents` | `max_model.descendants` |" in lines[5]
    assert "`config.n_embd = 256`<br>`config.n_layer = 6`" in page_changes(demo=True)


def test_figure_has_a_version_for_each_theme() -> None:
    shown = figure("gelu", "a curve", "The curve.", "steps/step_04.md")
    assert shown.count("![a curve](../figures/gelu-") == 2
    assert "gelu-light.svg#only-light" in shown
    assert "gelu-dark.svg#only-dark" in shown
    assert "(figures/gelu-light.svg" in figure("gelu", "a", "b", "index.md")


def test_macro_output_is_indented_like_the_macro() -> None:
    assert indented('!!! note\n\n    {{ hints(4) }}\n{{ code("a") }}\nin {{ hints(4) }} a line') == (
        '!!! note\n\n    {{ hints(4) | indent(4) }}\n{{ code("a") | indent(0) }}\nin {{ hints(4) }} a line'
    )


def test_formulas_are_converted_to_mathml() -> None:
    inline, alone = "\\(a &lt; b\\)", "\\[\\frac{1}{x}\\]"
    shown = with_mathml(f'<p><span class="arithmatex">{inline}</span></p><div class="arithmatex">{alone}</div>')
    assert shown.count("<math ") == 2
    assert "&#x0003C;" in shown
    assert "<mfrac>" in shown
    assert 'class="formula"' in shown
    with pytest.raises(BookError, match=r"nosuchthing"):
        with_mathml('<span class="arithmatex">\\(\\nosuchthing x\\)</span>')
    with pytest.raises(BookError, match="is invalid"):
        with_mathml('<span class="arithmatex">\\(\\left( x\\)</span>')


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda: code("solutions/solution_15.py"), "There is no file solutions/solution_15.py."),
        (lambda: code(MLP, "GPT2MPL"), f"There is no GPT2MPL in {MLP}."),
        (lambda: code(MLP, "GPT2MLP.backward"), f"There is no GPT2MLP.backward in {MLP}."),
        (lambda: code(KERNEL, "apend"), f"There is no apend in {KERNEL}."),
        (lambda: code("README.md", "x"), "Cannot look up x in README.md: it is neither Python nor Mojo"),
        (lambda: hints(18), "There is no step 18."),
        (lambda: mistake(4, "no such"), "Step 4 has no mistake 'no such'. It has 'erf'"),
        (lambda: measured("cli"), "docs/cli.md contains <!-- measured --> 0 times"),
        (lambda: between("docs/sizes.md", "| size", "no such"), "docs/sizes.md contains no such 0 times"),
        (lambda: transcript("x"), "There is no transcript 'x'. Known transcripts: 'demo'."),
        (lambda: text_block("README.md", "no such"), "README.md contains 0 text blocks that begin with 'no such'"),
        (lambda: figure("x", "a", "b", "index.md"), "There is no figure figures/x-light.svg."),
    ],
)  # fmt: skip
def test_missing_content_is_reported(call: object, expected: str) -> None:
    assert callable(call)
    with pytest.raises(BookError, match=re.escape(expected)):
        call()


def small_book(folder: Path, page: str) -> Path:
    """Write a site with one page and the project's settings; return the path of its mkdocs.yml."""
    book = folder / "book"
    pages = folder / "docs"
    book.mkdir(parents=True)
    (pages / "book").mkdir(parents=True)
    for name in ("macros.py", "hooks.py"):
        (book / name).symlink_to(BOOK / name)
    shutil.copy(PAGES / "book.css", pages / "book")
    shutil.copytree(PAGES / "figures", pages / "figures")
    ours = settings() | {"nav": ["index.md"]}
    del ours["watch"]
    (folder / "mkdocs.yml").write_text(yaml.safe_dump(ours))
    (pages / "index.md").write_text(f"# A page\n\n{page}\n")
    return folder / "mkdocs.yml"


def test_macros_work_inside_a_collapsed_block(tmp_path: Path) -> None:
    inner = '{{ code("solutions/solution_04.py", "GPT2MLP.forward") }}\n\n    {{ mistake(4, "erf") }}'
    page = f'??? tip "More"\n    Words with $x^2$.\n\n    {inner}\n\n    {{{{ figure("gelu", "a", "$y$.") }}}}\n'
    done = build(small_book(tmp_path, page), tmp_path / "site")
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "site" / "index.html").read_text()
    inside = text.split("<details")[1].split("</details>")[0]
    for part in ("<pre", "<blockquote", "<figcaption", "<img", "solution_04.py", "<math"):
        assert part in inside
    assert inside.count("<math") == 2


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ('{{ code("solutions/solution_04.py", "GPT2MPL") }}', "There is no GPT2MPL in solutions/solution_04.py."),
        ("{{ no_such_macro(1) }}", "no_such_macro"),
        ("{{ no_such_name }}", "no_such_name"),
        ("$$\\nosuchthing$$", "\\nosuchthing"),
        ("[away](no_such.md)", "no_such.md"),
        ("[away](#no-such)", "no-such"),
    ],
)
def test_build_reports_the_cause_of_a_failure(page: str, expected: str, tmp_path: Path) -> None:
    done = build(small_book(tmp_path, page), tmp_path / "site")
    assert done.returncode != 0
    assert expected in done.stdout + done.stderr
