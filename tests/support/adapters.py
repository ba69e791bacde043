"""LoRA adapters with random weights, written by PEFT."""

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, get_peft_model


def base_model(folder: Path) -> Any:
    """Return transformers' model of a checkpoint, in float32."""
    return transformers.GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()


def save_adapter(base: Path, target: Path, seed: int = 0, **options: Any) -> Path:
    """Save an adapter with random weights; no factor is zero, as B is before training."""
    values: dict[str, Any] = {"r": 3, "lora_alpha": 7, "task_type": "CAUSAL_LM"} | options
    config = LoraConfig(**values)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # advice of PEFT
        model = get_peft_model(base_model(base), config)
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
        model.save_pretrained(str(target))
    return target
