"""Tokenization: text to token ids and back."""

from max_gpt2.tokenizer.byte_level import END_OF_TEXT
from max_gpt2.tokenizer.tokenizer import GPT2Tokenizer

__all__ = ["END_OF_TEXT", "GPT2Tokenizer"]
