from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.architectures import ARCHITECTURES, save_tiny

from keepshot.errors import RunError
from keepshot.models.load import load_model
from keepshot.strategies import frozen
from keepshot.strategies.frozen import fingerprint, verify_frozen
from keepshot.strategies.trainable import Everything, Lora, Roles, apply_trainable

FUSED = ["gpt2", "gpt_neox", "phi3"]


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"bloom"}))
def test_any_number_that_was_to_stay_is_noticed_and_no_other(name: str) -> None:
    trained = apply_trainable(ARCHITECTURES[name](), Roles(roles=("value",)), seed=0)
    before = fingerprint(trained.model, trained.parts)
    generator = torch.Generator().manual_seed(0)
    for parameter_name, parameter in trained.model.named_parameters():
        flat = parameter.detach().view(-1)
        index = int(torch.randint(len(flat), (), generator=generator))
        part = trained.parts.get(parameter_name)
        moves = parameter_name in trained.parts and (
            part is None or bool(part.expand(parameter.shape).flatten()[index])
        )
        old = flat[index].clone()
        flat[index] += 1
        after = fingerprint(trained.model, trained.parts)
        assert [key for key in before if before[key] != after[key]] == ([] if moves else [parameter_name])
        flat[index] = old
    assert fingerprint(trained.model, trained.parts) == before


@pytest.mark.parametrize("name", FUSED)
def test_the_elements_that_may_move_leave_no_trace(name: str) -> None:
    trained = apply_trainable(ARCHITECTURES[name](), Roles(roles=("value",)), seed=0)
    before = fingerprint(trained.model, trained.parts)
    for parameter_name, part in trained.parts.items():
        parameter = trained.model.get_parameter(parameter_name)
        parameter.data[part.expand(parameter.shape)] += 1
    verify_frozen(before, fingerprint(trained.model, trained.parts))
    assert set(before) == {parameter_name for parameter_name, _ in trained.model.named_parameters()}


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_and_reloaded_model_proves_itself(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    base = save_tiny(ARCHITECTURES[name]().to(dtype), tmp_path / "base")
    trained = apply_trainable(load_model(str(base), device="cpu"), Roles(roles=("value",)), seed=0)
    before = fingerprint(trained.model, trained.parts, dtype)
    for parameter_name in trained.parts:
        parameter = trained.model.get_parameter(parameter_name)
        part = trained.parts[parameter_name]
        parameter.data += 1 if part is None else part
    saved = save_tiny(trained.model.to(dtype), tmp_path / "tuned")
    verify_frozen(before, fingerprint(load_model(str(saved), device="cpu"), trained.parts, dtype))
    in_float32 = fingerprint(load_model(str(saved), dtype="float32", device="cpu"), trained.parts, dtype)
    verify_frozen(before, in_float32)
    assert before == in_float32
    assert len(before) > len(trained.parts)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom"])
def test_an_adapter_and_its_wrapping_do_not_show(name: str, tmp_path: Path) -> None:
    base = save_tiny(ARCHITECTURES[name](), tmp_path / "base")
    model = load_model(str(base), device="cpu")
    plain = fingerprint(model, {})
    trained = apply_trainable(model, Lora(r=2), seed=0)
    for parameter in trained.model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter)
    verify_frozen(plain, fingerprint(trained.model, trained.parts))
    trained.model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    verify_frozen(plain, fingerprint(load_model(str(tmp_path / "adapter"), device="cpu"), trained.parts))
    with pytest.raises(RunError, match="outside the trainable set differ"):
        verify_frozen(plain, fingerprint(trained.model.merge_and_unload(), trained.parts))


def test_nothing_is_left_to_prove_when_everything_moves() -> None:
    trained = apply_trainable(ARCHITECTURES["llama"](), Everything(), seed=0)
    assert fingerprint(trained.model, trained.parts) == {}


def test_the_error_names_the_first_tensors_and_counts_the_rest() -> None:
    before = dict.fromkeys("abcde", "0")
    with pytest.raises(RunError, match=r"4 of 5 tensors .*: b, c, d and 1 more;"):
        verify_frozen(before, {**before, **dict.fromkeys("bcde", "1")})


@pytest.mark.parametrize("after", [{"a": "0"}, {"a": "0", "b": "0", "c": "0"}])
def test_parameters_that_came_or_went_are_changes(after: dict[str, str]) -> None:
    with pytest.raises(RunError, match="1 of 2 tensors"):
        verify_frozen({"a": "0", "b": "0"}, after)


def test_equal_bytes_in_another_shape_are_a_change() -> None:
    model, other = ARCHITECTURES["llama"](), ARCHITECTURES["llama"]()
    weight = other.model.layers[0].mlp.up_proj.weight
    weight.data = weight.data.view(weight.shape[1], weight.shape[0])
    assert fingerprint(model, {}) != fingerprint(other, {})


@given(rows=st.integers(1, 9), columns=st.integers(1, 5), chunk=st.integers(1, 50), data=st.data())
def test_chunks_do_not_show(rows: int, columns: int, chunk: int, data: st.DataObject) -> None:
    axis = data.draw(st.sampled_from([0, 1]))
    length = (rows, columns)[axis]
    flags = data.draw(st.lists(st.booleans(), min_size=length, max_size=length))
    moving = torch.tensor(flags).view([-1 if dim == axis else 1 for dim in range(2)])
    tensor = torch.arange(rows * columns, dtype=torch.float32).view(rows, columns)
    whole = frozen._digest(tensor, moving, torch.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frozen, "_CHUNK", chunk)
        assert frozen._digest(tensor, moving, torch.float32) == whole
