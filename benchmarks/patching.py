"""What patching needs on a model of half a billion parameters: memory beyond its weights, and time of a component.

    python -m benchmarks.patching [--pairs 32] [--context 512] [--query 32] [--components 2] [--device cpu]

A model of the shape of Qwen2.5-0.5B with weights drawn at random, in float32, since memory and time do not depend on
what weights say; nothing is downloaded. All pairs are one batch (32 is the default of `patch`), behind a context that
all share with their corrupt prompts. The last line is peak memory beyond the weights, in GiB. On a CPU it is
what the process held at most beyond what it held before patching (Linux).
"""

import argparse
import time
from pathlib import Path

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from keepshot.probes.patching import Pair, components, patch

GIB = 2**30


def model_of(device: str) -> Qwen2ForCausalLM:
    """Random weights in the shape of Qwen2.5-0.5B, whose config's numbers these are."""
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=896,
        intermediate_size=4864,
        num_hidden_layers=24,
        num_attention_heads=14,
        num_key_value_heads=2,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return Qwen2ForCausalLM(config).to(device).eval()


def pairs_of(count: int, context: int, query: int) -> list[Pair]:
    """Prompts of random tokens that differ in the first token of their query."""
    drawn = torch.randint(10, 100_000, (count, context + query), generator=torch.Generator().manual_seed(0)).tolist()
    return [
        Pair(clean=tuple(ids), corrupt=(*ids[:context], 5, *ids[context + 1 :]), query=context, right=1, wrong=2)
        for ids in drawn
    ]


def begin(device: str) -> int:
    """Forget earlier peaks; the bytes that are held now, of the device or of the process (on Linux)."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak(device: str) -> int:
    """The most bytes that were held since."""
    return torch.cuda.max_memory_allocated() if device != "cpu" else _status("VmHWM")


def _status(name: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


def main() -> None:
    """Measure once."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("pairs", 32), ("context", 512), ("query", 32), ("components", 2)):
        options.add_argument(f"--{name}", type=int, default=default)
    options.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = options.parse_args()
    model = model_of(given.device)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    every = components(model)
    pairs = pairs_of(given.pairs, given.context, given.query)
    patch(model, pairs[:2], chosen=[])  # what only the first run costs
    before = begin(given.device)
    start = time.perf_counter()
    patch(model, pairs, chosen=[], batch=given.pairs)  # the context, both prompts, and all components at once
    alone = time.perf_counter() - start
    start = time.perf_counter()
    patch(model, pairs, chosen=every[: given.components], batch=given.pairs)
    each = (time.perf_counter() - start - alone) / given.components
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f} M parameters, {weights / GIB:.2f} GiB of weights")
    print(f"{given.pairs} pairs of {given.context} + {given.query} tokens, {len(every)} components, {given.device}")
    print(f"seconds: {alone:.1f} for what all share, {each:.2f} a component, {alone + each * len(every):.0f} for all")
    print(f"peak beyond the weights: {(peak(given.device) - before) / GIB:.2f} GiB")


if __name__ == "__main__":
    main()
