"""The x-ray page: look into a model in the browser, or in a file of HTML."""

from max_gpt2.inspect.xray.analysis import Analysis
from max_gpt2.inspect.xray.state import State

__all__ = ["Analysis", "State"]
