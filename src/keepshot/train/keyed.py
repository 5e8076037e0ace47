"""What is computed once from the base and kept on disk, under a key of all that it depends on."""

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from keepshot.errors import RunError
from keepshot.train.planner import PlannedRow


def key_of(settings: Iterable[bytes], weights: Iterable[str], rows: Sequence[PlannedRow]) -> str:
    """A digest of settings, the base's weights, and the token ids and scored positions of rows."""
    digest = hashlib.blake2b(digest_size=16)
    for part in settings:
        digest.update(part)
    for weight in weights:
        digest.update(weight.encode())
    for row in rows:
        digest.update(repr((row.name, row.scored)).encode())
        digest.update(array("q", row.row.ids).tobytes())
    return digest.hexdigest()


def save_keyed(tensors: Mapping[str, Tensor], path: Path, key: str, told: Mapping[str, str] | None = None) -> None:
    """Write tensors with a key, and what else is told of them, as safetensors; `path` is complete or absent."""
    aside = path.with_name(f".{path.name}.part")
    save_file(
        {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, aside, {**(told or {}), "key": key}
    )
    aside.replace(path)


def load_keyed(
    path: Path, key: str, what: str, names: Sequence[str] = ()
) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Read what `save_keyed` wrote: the tensors, and what was told; None where there is no file or another key.

    Args:
        path: Of the file.
        key: That it must have.
        what: The file is to be, for messages.
        names: Of the tensors; all where none are named.

    Raises:
        RunError: The file is something else.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            told = file.metadata() or {}
            if told.get("key") != key:
                return None
            return {name: file.get_tensor(name) for name in names or file.keys()}, told
    except SafetensorError as error:
        raise RunError(f"{path} is no {what}: {error}; delete it, and it is computed anew") from None
