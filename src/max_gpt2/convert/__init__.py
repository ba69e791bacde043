"""From any checkpoint that is read to a clean Hugging Face folder, with the same weights bit for bit."""

from max_gpt2.convert.run import Conversion, convert

__all__ = ["Conversion", "convert"]
