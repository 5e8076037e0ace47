import pytest
import torch

from keepshot.models.muon import orthogonal
from keepshot.models.precision import computing_dtype


@pytest.mark.parametrize(
    ("built", "instructions", "expected"),
    [(True, True, torch.bfloat16), (True, False, torch.float32), (False, True, torch.float32)],
)
def test_a_cpu_computes_in_what_it_has_instructions_for(
    built: bool, instructions: bool, expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: built)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: instructions)
    assert computing_dtype(torch.device("cpu")) == expected
    assert computing_dtype(torch.device("cuda")) == torch.bfloat16
    assert orthogonal(torch.eye(4)[None]).dtype == expected
