import pytest
import torch

from keepshot.errors import RunError
from keepshot.evaluation.memory import OUT_OF_MEMORY, halved

FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_a_batch_is_halved_down_to_the_smallest_and_then_an_error(error):
    assert isinstance(error, OUT_OF_MEMORY)
    assert halved(error, 1000, 300) == 500
    assert halved(error, 500, 300) == 300
    for size in (300, 299):
        with pytest.raises(RunError, match=f"does not hold a single prompt .{size} tokens") as caught:
            halved(error, size, 300)
        assert caught.value.__cause__ is error
        assert "\n" not in str(caught.value)


def test_every_size_comes_to_an_end():
    for size in range(1, 40):
        tries = 0
        while size > 1:
            smaller = halved(MemoryError(), size, 1)
            assert 1 <= smaller < size
            size, tries = smaller, tries + 1
        assert tries <= 6


@pytest.mark.parametrize(
    "error", [RuntimeError("expected scalar type Float but found Half"), RunError("the model gave NaN")], ids=str
)
def test_what_is_not_about_memory_is_raised_again(error):
    with pytest.raises(RuntimeError) as caught:
        halved(error, 1000, 300)
    assert caught.value is error


def test_what_torch_really_raises_is_recognised():
    with pytest.raises(OUT_OF_MEMORY) as caught:
        torch.empty(2**60, dtype=torch.int8)
    assert halved(caught.value, 8, 1) == 4
