"""Embeddings are cosines, of a real sentence-transformers model too; a large pool is searched in parts."""

import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from keepshot.episodes import Neighbours, dense
from keepshot.episodes.dense import Dense
from keepshot.errors import ConfigError, DataError
from keepshot.runs.retrieval import keep_similarity, similarity_over
from keepshot.tasks.example import Example

POOL = ["book a table for two", "book a flight to rome", "play some music, now", "play music", "a a a book"]


def lengths(texts: list[str]) -> np.ndarray:
    return np.array([[len(text), text.count("o") + 1.0] for text in texts])


def test_embeddings_are_compared_by_their_angle(tmp_path: Path) -> None:
    pool = Dense(POOL, lengths)
    vectors = lengths([*POOL, "look"])
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors[:-1] @ vectors[-1]
    assert pool.to("look") == pytest.approx(cosines, abs=1e-6)
    assert pool.between("look", [3, 1]) == pytest.approx(cosines[[3, 1]], abs=1e-6)
    places, found = pool.nearest("look", 3)
    assert places.tolist() == np.argsort(-cosines)[:3].tolist()
    assert found == pytest.approx(np.sort(cosines)[::-1][:3], abs=1e-6)
    pool.save(tmp_path)
    again = Dense.load(tmp_path, lengths)
    assert np.array_equal(again.to("look"), pool.to("look"))


def test_an_empty_pool() -> None:
    with pytest.raises(DataError, match="no inputs to retrieve from"):
        Dense([], lengths)


def in_clusters(texts: list[str]) -> np.ndarray:
    """Text "7 3" is the third point around the seventh of forty centres."""
    centres = np.random.default_rng(0).normal(size=(40, 16))
    places = [tuple(map(int, text.split())) for text in texts]
    return np.stack([centres[one] + 0.3 * np.random.default_rng((one, other)).normal(size=16) for one, other in places])


CLUSTERS = [f"{one} {other}" for one in range(40) for other in range(30)]


def test_a_large_pool_is_searched_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    exact, parts = Dense(CLUSTERS, in_clusters), Dense(CLUSTERS, in_clusters)
    wanted = {text: exact.nearest(text, 10) for text in CLUSTERS[::37]}
    monkeypatch.setattr(dense, "LARGE", 1_000)
    monkeypatch.setattr(dense, "_SEARCHED", 64)
    assert parts._lists.nlist == 136
    found = {text: parts.nearest(text, 10) for text in wanted}
    recall = np.mean([len(set(found[text][0]) & set(wanted[text][0])) / 10 for text in wanted])
    assert 0.5 < recall < 1  # three of 136 lists are searched
    for text, (places, cosines) in found.items():
        assert cosines == pytest.approx(exact.to(text)[places], abs=1e-6)
        assert (np.diff(cosines) <= 0).all()
        assert CLUSTERS[places[0]] == text
    near = Neighbours([Example(text, "x") for text in CLUSTERS], parts, depth=1_000).of(5)
    assert 0 < len(near) < 1_000  # asked for more than the lists hold, it ends
    assert 5 not in [row for row, _ in near]


def test_without_faiss_all_vectors_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = Dense(CLUSTERS, in_clusters).nearest("3 4", 10)
    monkeypatch.setattr(dense, "LARGE", 1_000)
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert Dense(CLUSTERS, in_clusters).nearest("3 4", 10)[0].tolist() == exact[0].tolist()


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sentence-transformers model of random weights, as it stands on disk."""
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("sentences")
    names = sorted({word for text in POOL for word in text.replace(",", "").split()})
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *names])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(
        folder / "bert"
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder / "bert")
    body = Transformer(str(folder / "bert"))
    pooling = Pooling(body.get_embedding_dimension())
    SentenceTransformer(modules=[body, pooling], device="cpu").save(str(folder / "model"))
    return str(folder / "model")


def test_a_model_of_sentence_transformers(sentences: str, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    built = similarity_over(POOL, sentences)
    vectors = SentenceTransformer(sentences, device="cpu").encode([*POOL, "book music"], normalize_embeddings=True)
    assert built.nearest("book music", 5)[1] == pytest.approx(np.sort(vectors[:-1] @ vectors[-1])[::-1], abs=1e-5)
    keep_similarity(built, POOL, sentences, tmp_path / "index")
    assert {file.name for file in (tmp_path / "index").iterdir()} == {"dense.safetensors", "index.json"}
    again = similarity_over(POOL, sentences, tmp_path / "index")
    assert again.between("book music", [2, 0]) == pytest.approx(built.between("book music", [2, 0]), abs=1e-6)


def test_a_model_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="is not auto or words or characters, and no model"):
        similarity_over(POOL, str(tmp_path / "empty"))
