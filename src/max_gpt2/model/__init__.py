"""The model for users: every flag of a real checkpoint, compiled once for every batch and length."""

from max_gpt2.model.compiled import CompiledModel, compile_model

__all__ = ["CompiledModel", "compile_model"]
