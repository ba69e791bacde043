"""The documents outside the site, and rules that all documents keep; tests/book runs the commands of the site."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import max_gpt2

ROOT = Path(__file__).parent.parent
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
#: Written by hand or by a tool of ours, apart from the book and the transcript of the terminal.
PROSE = TOP + [path for path in (ROOT / "docs").rglob("*.md") if "book" not in path.parts and path.stem != "transcript"]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MkDocs make them of plain words."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", one).strip().lower().replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", TOP, ids=lambda page: page.name)
def test_links_and_make_targets_exist(page: Path) -> None:
    text = page.read_text()
    for link, _, anchor in (one.partition("#") for one in re.findall(r"\]\((?!https?:)([^)]+)\)", text)):
        assert (ROOT / link).exists(), link
        assert not anchor or anchor in anchors(ROOT / link), f"{link}#{anchor}"
    assert set(re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)`", text)) <= TARGETS


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_prose_wraps_at_100_columns(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    long = [line for line in text.splitlines() if len(line) > 100 and not line.startswith("|")]
    assert not long


def test_short_documents_stay_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
    text = (ROOT / "docs" / "performance.md").read_text()
    words = re.findall(r"\w[\w.,/%'-]*", re.sub(r"<!--.*?-->|\]\([^)]*\)", "", text))
    assert len(words) <= 480


def test_every_target_is_explained_by_make_help() -> None:
    command = ["make", "--no-print-directory", "help"]  # `make test` runs this below another make
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {line.split()[0] for line in done.stdout.splitlines()}
    assert listed == TARGETS


def test_paths_named_in_contributing_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"`((?:src|tests|docs|solutions|tutorial|mkdocs|tools)[/.][\w/.-]+)`", text)
    missing = [name for name in named if "NN" not in name and "NAME" not in name and not (ROOT / name).exists()]
    assert not missing


def test_version_has_one_source() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    source = ROOT / project["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{max_gpt2.__version__}"' in source.read_text()
    assert f"## [{max_gpt2.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_package_is_typed() -> None:
    assert (Path(max_gpt2.__file__).parent / "py.typed").is_file()


def test_pre_commit_and_ci_run_the_project_tools() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        program = hook["entry"].split()[0]
        assert hook["language"] == "pygrep" or (Path(sys.executable).parent / Path(program).name).exists(), program
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert {"run": "make test"} in workflow["jobs"]["test"]["steps"]
