"""The page: its files as a server sends them, and all of them in one file."""

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from max_gpt2._files import json_text

#: The names of the static files, by suffix; the scripts are modules that import each other as "xray/NAME".
_STATIC = files(__package__) / "static"
CONTENT_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
PLOTLY = "plotly.min.js"
# Plotly and the page set styles on elements; images of figures are drawn from data and blob URLs.
_POLICY = (
    "default-src 'none'; script-src {scripts}; style-src {styles}; img-src 'self' data: blob:; connect-src {connect}; "
    "base-uri 'none'; form-action 'none'"
)


@cache
def static_files() -> dict[str, str]:
    """Return the texts of the scripts and styles of the page by their names, and Plotly's."""
    from plotly.offline import get_plotlyjs

    own = [one for one in _STATIC.iterdir() if one.name.endswith(tuple(CONTENT_TYPES))]
    return {one.name: one.read_text(encoding="utf-8") for one in sorted(own, key=str)} | {PLOTLY: get_plotlyjs()}


@cache
def live_page() -> tuple[str, str]:
    """Return the page of a server, whose scripts are files of its own, and its content security policy."""
    import_map = _import_map({name: f"/static/{name}" for name in static_files()})
    head = "\n".join(
        [
            *(f'<link rel="stylesheet" href="/static/{name}">' for name in static_files() if name.endswith(".css")),
            f'<script src="/static/{PLOTLY}"></script>',
            f'<script type="importmap">{import_map}</script>',
        ]
    )
    start = 'import "xray/app";'
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in (import_map, start)
    )
    policy = _POLICY.format(scripts=f"'self' {hashes}", styles="'self' 'unsafe-inline'", connect="'self'")
    return _page(head, start), f"{policy}; frame-ancestors 'none'"


def file_page(data: dict[str, Any]) -> str:
    """Return the page with everything in one file: scripts, styles, and the answers that it shows."""
    sources = static_files()
    modules = {name: _data_url(text) for name, text in sources.items() if name.endswith(".js") and name != PLOTLY}
    policy = _POLICY.format(scripts="'unsafe-inline' data:", styles="'unsafe-inline'", connect="'none'")
    head = "\n".join(
        [
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            *(f"<style>{text}</style>" for name, text in sources.items() if name.endswith(".css")),
            f"<script>{_inline(sources[PLOTLY])}</script>",
            f'<script type="importmap">{_import_map(modules)}</script>',
        ]
    )
    return _page(head, 'import "xray/app";', f'<script type="application/json" id="data">{_json(data)}</script>\n')


def _page(head: str, start: str, data: str = "") -> str:
    template = (_STATIC / "index.html").read_text(encoding="utf-8")
    for mark, content in (("<!--head-->", head), ("<!--data-->", f'{data}<script type="module">{start}</script>')):
        before, found, after = template.partition(mark)
        assert found, mark
        template = before + content + after
    return template


def _import_map(urls: dict[str, str]) -> str:
    return _json(
        {"imports": {f"xray/{name.removesuffix('.js')}": url for name, url in urls.items() if name.endswith(".js")}}
    )


def _data_url(text: str) -> str:
    return f"data:text/javascript;base64,{base64.b64encode(text.encode()).decode()}"


def _json(value: Any) -> str:
    """Return JSON in which nothing ends a script element."""
    return json_text(value).replace("<", "\\u003c")


def _inline(script: str) -> str:
    """Return a script in which no string ends the script element."""
    return script.replace("</script", "<\\/script")
