"""A prompt on a terminal, again and again, with a history and settings."""

from max_gpt2.prompt_loop.loop import PromptLoop

__all__ = ["PromptLoop"]
