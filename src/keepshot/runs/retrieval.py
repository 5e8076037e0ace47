"""The index of a run: built once over the training inputs, kept beside the run, read again where it fits."""

from collections.abc import Sequence
from pathlib import Path

from keepshot.episodes import Bank, Bm25, Contexts, Dense, Neighbours, Sampler, Similarity
from keepshot.episodes.dense import Encode
from keepshot.episodes.paraphrases import Edits, Paraphrases, read_paraphrases
from keepshot.errors import ConfigError, RunError
from keepshot.files import new_folder, read_json, write_json
from keepshot.keys import key
from keepshot.strategies import ContextSpec, StreamSpec
from keepshot.tasks.example import Example
from keepshot.tasks.read import as_task

BY_TOKENS = ("auto", "words", "characters")


def similarity_over(texts: Sequence[str], name: str, folder: Path | None = None) -> Similarity:
    """A measure over texts, read from a folder that holds this one, else built.

    Args:
        texts: The pool.
        name: `auto`, `words` or `characters` for BM25, or a sentence-transformers model.
        folder: Where it may be.

    Raises:
        ConfigError: The name is a model, and the extra `dense` is not installed or the model cannot be loaded.
    """
    encode = None if name in BY_TOKENS else _encoder(name)
    if folder is not None and _holds(folder, _stamp(texts, name)):
        return Bm25.load(folder) if encode is None else Dense.load(folder, encode)
    if encode is not None:
        return Dense(texts, encode)
    return Bm25(texts, None if name == "auto" else name)  # type: ignore[arg-type]


def keep_similarity(similarity: Similarity, texts: Sequence[str], name: str, folder: Path) -> None:
    """Write a measure to a folder, where `similarity_over` finds it; nothing where it is there."""
    stamp = _stamp(texts, name)
    if not _holds(folder, stamp):
        with new_folder(folder) as aside:
            similarity.save(aside)
            write_json(aside / "index.json", stamp)


def _stamp(texts: Sequence[str], name: str) -> dict[str, object]:
    return {"schema": "keepshot.index/1", "similarity": name, "texts": len(texts), "key": key(name, *texts)}


def _holds(folder: Path, stamp: dict[str, object]) -> bool:
    try:
        return read_json(folder / "index.json") == stamp
    except RunError:
        return False


def _encoder(name: str) -> Encode:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ConfigError(
            f"similarity {name!r} is a model of sentence embeddings, which needs the extra dense: "
            f"pip install 'keepshot[dense]'; without it there are {', '.join(BY_TOKENS)}"
        ) from None
    try:
        encoder = SentenceTransformer(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"similarity {name!r} is not {' or '.join(BY_TOKENS)}, and no model: {error}") from None
    return lambda texts: encoder.encode(list(texts), show_progress_bar=False, convert_to_numpy=True)


def context_sampler(spec: StreamSpec, examples: Sequence[Example], seed: int, folder: Path | None) -> Contexts:
    """The sampler of a stream whose rows stand behind others of the target's examples.

    Raises:
        ConfigError: The similarity is unknown.
        DataError: There are too few examples, or the paraphrases cannot be used.
    """
    law = spec.context
    assert law is not None, spec
    similarity = similarity_over([example.input for example in examples], law.similarity, folder)
    neighbours = Neighbours(examples, similarity, law.duplicate)
    return Contexts(
        spec.name,
        examples,
        neighbours,
        seed,
        law.kind,
        spec.shots,
        law.near,
        law.paraphrase,
        law.nearest,
        _paraphrases(law, examples, seed),
        "last" if spec.scored == "later" else spec.scored,
    )


def keep_index(spec: StreamSpec, sampler: Sampler, folder: Path) -> None:
    """Keep the index of a stream beside the run, if it has one."""
    sampler = sampler.sampler if isinstance(sampler, Bank) else sampler
    if spec.context is not None and isinstance(sampler, Contexts):
        texts = [example.input for example in sampler.examples]
        keep_similarity(sampler.neighbours.similarity, texts, spec.context.similarity, folder)


def _paraphrases(law: ContextSpec, examples: Sequence[Example], seed: int) -> Paraphrases:
    match law.paraphrases:
        case "none":
            return {}
        case "edits":
            return Edits(examples, seed, as_task("target", examples).labels)
        case path:
            return read_paraphrases(Path(path).expanduser(), examples)
