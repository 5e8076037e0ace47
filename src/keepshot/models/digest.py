"""What tells a base from another of the same name."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from keepshot.models.source import adapter_base, model_folder

_READ = (
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
_LOOKED_AT = 4096
"""Bytes at each of three places of a tensor: a training of a role moves one part of a fused one, and a model of many
gigabytes is known in a second."""


def model_digest(name: str) -> str:
    """A digest of a model's settings, tokenizer and weights, of these three places of each tensor; of its base too.

    Args:
        name: As `load_model` takes it.

    Raises:
        ModelError: As `load_model`.

    Example:
        >>> model_digest("mini") == model_digest("mini"), len(model_digest("mini"))
        (True, 32)
    """
    folder = model_folder(name)
    digest = hashlib.blake2b(digest_size=16)
    for file in _READ:
        if (folder / file).is_file():
            digest.update(f"{file}\n".encode() + (folder / file).read_bytes())
    for weights in sorted(folder.glob("*.safetensors")):
        for part in _samples(weights):
            digest.update(part)
    if (base := adapter_base(name)) is not None:
        digest.update(model_digest(base).encode())
    return digest.hexdigest()


def _samples(weights: Path) -> Iterator[bytes]:
    """The header of a safetensors file, and of each tensor the beginning, the middle and the end."""
    with weights.open("rb") as file:
        size = file.read(8)
        header = file.read(int.from_bytes(size, "little"))
        yield header
        for name, tensor in json.loads(header).items():
            if name != "__metadata__":
                begin, end = (len(size) + len(header) + offset for offset in tensor["data_offsets"])
                last = max(begin, end - _LOOKED_AT)
                for place in dict.fromkeys((begin, (begin + last) // 2, last)):
                    file.seek(place)
                    yield file.read(min(end - place, _LOOKED_AT))
