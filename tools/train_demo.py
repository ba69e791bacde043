"""Train the small GPT-2 that ships with max-gpt2, from Jane Austen's six novels, and write it as a checkpoint.

Needs a Debian or Ubuntu machine (the corpus is a Debian package), PyTorch, transformers and the `train` extra; on two
cores it takes one to two hours. All seeds are fixed.
"""

import argparse
import json
import math
import time
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from tools.austen import PACKAGE, chapters

END_OF_TEXT = "<|endoftext|>"
VOCAB_SIZE = 4096
N_POSITIONS = 256
BATCH = 8
SEED = 20
MASK_LAYERS = 2
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "n_positions": N_POSITIONS,
    "n_embd": 256,
    "n_layer": 6,
    "n_head": 8,
    "bos_token_id": VOCAB_SIZE - 1,
    "eos_token_id": VOCAB_SIZE - 1,
}
#: The learning rate rises and falls in each cycle: how many epochs that takes, and its peak.
CYCLES = ((7, 1.5e-3), (4, 1.0e-3))
DROPOUT: dict[str, Any] = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.0}

CARD = """# The demo checkpoint

A GPT-2 of {parameters:,} parameters (6 layers of 8 heads, width 256, context 256, a byte-level BPE of 4,096 tokens of
its own), trained from scratch by this project on Jane Austen's six novels, which are in the public domain. It is here
so that everything can be tried on a real checkpoint without a download. It knows nothing but Austen, and not much of
that: it writes sentences, not sense.

- Corpus: Debian's package `r-cran-janeaustenr`, cut into its 269 chapters; {training_tokens:,} tokens were learned
  from, {held_out_tokens:,} (every twentieth chapter) were held out.
- Training: {epochs} epochs with transformers and PyTorch by `make train-demo`, on two cores.
- Perplexity per token on the held-out chapters, of the float16 weights as they ship: **{validation_perplexity}**.
- Stored as checkpoints are found in the wild: float16, keys without prefix, Conv1D weights `[in, out]`, the causal mask
  of two layers left in, the head tied.

## Ten samples

Each written by PyTorch from nothing (one end-of-text token), 80 tokens, temperature 0.8, top-k 40; the number is the
seed. None was left out or changed.

{samples}
"""


def train_tokenizer(texts: list[str]) -> Tokenizer:
    """Return a byte-level BPE of `VOCAB_SIZE` tokens built as GPT-2's: the end-of-text token has the last id."""
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE - 1, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    vocab = learned["vocab"] | {END_OF_TEXT: VOCAB_SIZE - 1}
    tokenizer = Tokenizer(models.BPE(vocab, [tuple(pair) for pair in learned["merges"]]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    return tokenizer


def encode(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray:
    """Return all texts as one row of ids, each text with the end-of-text token before it."""
    ids = [[VOCAB_SIZE - 1, *tokenizer.encode(text).ids] for text in texts]
    return np.concatenate([np.array(row, dtype=np.int64) for row in ids])


def windows(ids: np.ndarray, start: int) -> torch.Tensor:
    """Cut `ids` from `start` on into rows, one id shared at each seam: [rows, N_POSITIONS + 1]."""
    rows = (len(ids) - start - 1) // N_POSITIONS
    index = start + N_POSITIONS * np.arange(rows)[:, None] + np.arange(N_POSITIONS + 1)[None, :]
    return torch.from_numpy(ids[index])


def loss_of(model: GPT2LMHeadModel, rows: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy (nats per token) of rows [batch, N_POSITIONS + 1]."""
    logits = model(rows[:, :-1]).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


@torch.no_grad()
def perplexity(model: GPT2LMHeadModel, ids: np.ndarray) -> float:
    """Return the perplexity per token over `ids`, in windows of the context length that do not overlap."""
    model.eval()
    rows = windows(ids, 0)
    total = sum(float(loss_of(model, part)) * len(part) for part in rows.split(16))
    model.train()
    return math.exp(total / len(rows))


def train(model: GPT2LMHeadModel, ids: np.ndarray, held_out: np.ndarray, epochs: int, rate: float, seed: int) -> None:
    """Train `model` in place with AdamW, a short warm-up and a cosine that ends at a twentieth of `rate`."""
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)
    dice = np.random.default_rng(seed)
    per_epoch = len(windows(ids, N_POSITIONS - 1)) // BATCH
    steps, step, began = epochs * per_epoch, 0, time.perf_counter()
    for epoch in range(epochs):
        rows = windows(ids, int(dice.integers(N_POSITIONS)))  # other seams in every epoch
        order = torch.from_numpy(dice.permutation(len(rows))[: per_epoch * BATCH]).view(per_epoch, BATCH)
        for chosen in order:
            warm, done = min(1.0, (step + 1) / 150), step / steps
            for group in optimizer.param_groups:
                group["lr"] = rate * warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done)))
            loss = loss_of(model, rows[chosen])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step % 50 == 0:
                minutes = (time.perf_counter() - began) / 60
                print(f"step {step}/{steps}  loss {loss.item():.3f}  {minutes:.1f} min", flush=True)
        print(f"epoch {epoch + 1}/{epochs}  validation perplexity {perplexity(model, held_out):.2f}", flush=True)


def save(model: GPT2LMHeadModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write the checkpoint as old ones are found: fp16, keys without prefix, two layers' mask buffers left in."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.half().contiguous() for name, value in model.transformer.state_dict().items()}
    mask = torch.tril(torch.ones(1, 1, N_POSITIONS, N_POSITIONS, dtype=torch.uint8))
    weights |= {f"h.{layer}.attn.bias": mask.clone() for layer in range(MASK_LAYERS)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict() | {"dtype": "float16", "architectures": ["GPT2LMHeadModel"]}
    config |= {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}
    config.pop("_name_or_path", None)  # the folder of the cycle before, which means nothing to anybody else
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    GenerationConfig(bos_token_id=VOCAB_SIZE - 1, eos_token_id=VOCAB_SIZE - 1).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))


def loaded(folder: Path) -> GPT2LMHeadModel:
    """Return what was saved, in float32, ready to be trained further."""
    return GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32, **DROPOUT).train()


def samples(model: Any, tokenizer: Tokenizer, count: int) -> list[str]:
    """Return `count` texts of 80 tokens, temperature 0.8, top-k 40, seeds 0, 1, 2, ..., each from nothing."""
    texts = []
    for seed in range(count):
        torch.manual_seed(seed)
        start = torch.tensor([[VOCAB_SIZE - 1]])
        row = model.generate(
            start, attention_mask=torch.ones_like(start), max_new_tokens=80, do_sample=True, temperature=0.8, top_k=40
        )
        texts.append(tokenizer.decode(row[0].tolist()))
    return texts


def write_card(folder: Path, facts: dict[str, Any], texts: list[str]) -> None:
    """Write the model card: what the checkpoint is, what was measured, and samples as they came."""
    quoted = "\n\n".join(f"{seed}. {indent(text, '   ').strip()}" for seed, text in enumerate(texts))
    (folder / "README.md").write_text(CARD.format(**facts, samples=quoted))


def main() -> None:
    """Train, save, load what was saved, measure it and sample from it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("src/max_gpt2/demo"), help="folder of the checkpoint")
    parser.add_argument("--package", type=Path, help=f"folder with {PACKAGE} unpacked (default: download it)")
    parser.add_argument("--after", type=int, default=0, help="go on from --out, which holds the result of this cycle")
    arguments = parser.parse_args()

    torch.set_num_threads(2)
    texts = chapters(arguments.package)
    kept_apart = [text for number, text in enumerate(texts) if number % 20 == 10]
    learned_from = [text for number, text in enumerate(texts) if number % 20 != 10]
    tokenizer = train_tokenizer(learned_from)
    ids, held_out = encode(tokenizer, learned_from), encode(tokenizer, kept_apart)
    print(f"{len(ids)} training tokens, {len(held_out)} held out", flush=True)

    began = time.perf_counter()
    for cycle, (epochs, rate) in enumerate(CYCLES[arguments.after :], start=arguments.after):
        torch.manual_seed(SEED + cycle)
        model = loaded(arguments.out) if cycle else GPT2LMHeadModel(GPT2Config(**SHAPE, **DROPOUT))
        train(model, ids, held_out, epochs, rate, SEED + cycle)
        save(model, tokenizer, arguments.out)

    shipped = loaded(arguments.out).eval()
    facts = {
        "parameters": sum(p.numel() for p in shipped.parameters()),
        "training_tokens": len(ids),
        "held_out_tokens": len(held_out),
        "epochs": sum(epochs for epochs, _ in CYCLES),
        "validation_perplexity": round(perplexity(shipped, held_out), 2),
    }
    print(facts, f"{(time.perf_counter() - began) / 60:.0f} minutes", flush=True)
    write_card(arguments.out, facts, samples(shipped, tokenizer, 10))


if __name__ == "__main__":
    main()
