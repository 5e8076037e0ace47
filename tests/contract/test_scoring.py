"""The scorer against lm-evaluation-harness, which many published figures come from."""

import pytest

from keepshot.episodes import demonstration_set
from keepshot.evaluation import score_levels
from keepshot.models.load import load_model, load_tokenizer
from keepshot.prompts import PLAIN, encode
from keepshot.tasks.builtin import builtin_suite

SHOTS = (0, 2, 8)


@pytest.fixture(scope="module")
def mini():
    return load_model("mini", device="cpu", dtype="float32"), load_tokenizer("mini")


@pytest.mark.parametrize("name", ["sort-upper-append", "last-digit", "weighted-digits"])
def test_log_likelihoods_are_those_of_lm_evaluation_harness(mini, name):
    huggingface = pytest.importorskip("lm_eval.models.huggingface")
    from lm_eval.api.instance import Instance

    model, tokenizer = mini
    task = next(task for task in builtin_suite().tasks if task.name == name)
    drawn = demonstration_set(task, 0, sets=8, shots=max(SHOTS), queries=4, seed=0)
    prompts = [[PLAIN.render([*drawn.demonstrations[:n], query]) for query in drawn.queries] for n in SHOTS]

    scores, shared = score_levels(model, [encode(level, tokenizer) for level in prompts])
    harness = huggingface.HFLM(
        pretrained=model, tokenizer=tokenizer, dtype="float32", add_bos_token=True, batch_size=4, device="cpu"
    )
    requests = []
    for prompt in (prompt for level in prompts for prompt in level):
        start, end = prompt.answers[-1]
        arguments = (prompt.text[:start], prompt.text[start:end])
        requests.append(Instance("loglikelihood", doc={}, arguments=arguments, idx=len(requests)))
    expected = harness.loglikelihood(requests, disable_tqdm=True)

    ours = [score for level in scores for score in level]
    assert shared
    assert [score.log_likelihood for score in ours] == pytest.approx([value for value, _ in expected], abs=1e-4)
    assert [score.exact for score in ours] == [exact for _, exact in expected]
    assert {score.exact for score in ours} == {True, False}
