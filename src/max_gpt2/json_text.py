"""Text that is JSON for every reader."""

import json
import math
from typing import Any

#: Line ends of Unicode, which JSON leaves as they are, and at which some readers of lines would cut.
_LINE_ENDS = {ord(one): f"\\u{ord(one):04x}" for one in "\x85\u2028\u2029"}


def json_text(value: Any) -> str:
    """Return a value as one line of JSON, which has no word for what is not finite: null stands for it."""
    text = json.dumps(_without_infinities(value), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can name and UTF-8 cannot hold
        return json.dumps(_without_infinities(value))
    return text.translate(_LINE_ENDS)


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_infinities(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_infinities(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
