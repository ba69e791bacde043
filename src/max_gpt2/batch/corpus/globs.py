"""Match names of files with glob patterns, on any file system."""

import re
from collections.abc import Callable

_WILDCARDS = re.compile(r"[*?\[]")


def has_wildcard(path: str) -> bool:
    """Return whether a path is a pattern: has one of *, ? and [."""
    return _WILDCARDS.search(path) is not None


def split_glob(path: str) -> tuple[str, str]:
    """Split a pattern into the folder before the first wildcard, with its final slash, and the rest."""
    found = _WILDCARDS.search(path)
    end = path.rfind("/", 0, found.start() if found else len(path)) + 1
    return path[:end], path[end:]


def compile_glob(pattern: str) -> Callable[[str], bool]:
    """Return a function that tells whether a name matches a pattern as a whole.

    * and ? match within one component of a path, and ** any number of components. As in a folder, a component that
    begins with . or _ is hidden: no wildcard at the beginning of a component matches it.
    """
    regex = ""
    components = pattern.split("/")
    for number, component in enumerate(components):
        is_last = number == len(components) - 1
        if component == "**":
            regex += r"(?:(?![._])[^/]+/)*" + (r"(?![._])[^/]+" if is_last else "")
        else:
            regex += _component(component) + ("" if is_last else "/")
    compiled = re.compile(regex, re.DOTALL)
    return lambda name: compiled.fullmatch(name) is not None


def _component(pattern: str) -> str:
    """Return the regular expression of one component of a path."""
    regex = r"(?![._])" if pattern[:1] in ("*", "?", "[") else ""
    place = 0
    while place < len(pattern):
        one = pattern[place]
        # As in the shell, a closing bracket right after the opening one, or after its negation, is a member.
        end = pattern.find("]", place + 2 + (pattern[place + 1 : place + 2] in ("!", "^"))) if one == "[" else -1
        if end > 0:
            members = pattern[place + 1 : end]
            negated = members[0] in "!^"
            members = members[negated:].replace("\\", r"\\").replace("[", r"\[").replace("]", r"\]")
            members = members.replace("^", r"\^").replace("&&", r"&\&").replace("||", r"|\|").replace("~~", r"~\~")
            regex += f"(?!/)[{'^' if negated else ''}{members}]"
            place = end
        else:
            regex += {"*": "[^/]*", "?": "[^/]"}.get(one, re.escape(one))
        place += 1
    return regex
