"""Loading models and tokenizers: safetensors only, no remote code.

A name is first resolved to a folder (`keepshot.models.source`), the folder is checked, and only then is anything built
from it.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import torch
from huggingface_hub.errors import StrictDataclassError
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTuner
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    logging,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from keepshot.errors import ConfigError, ModelError
from keepshot.models.precision import stored_dtype
from keepshot.models.source import base_in, base_name, first_line, model_folder, read_settings

CausalLM: TypeAlias = PreTrainedModel | PeftModel

DEFAULT_CONTEXT = 2048
"""Tokens, where a config states no limit (ALiBi models such as BLOOM and MPT, most of which were trained on 2,048)."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length", "n_ctx")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt")
_BROKEN = (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError, SafetensorError, StrictDataclassError)


def load_model(
    name: str,
    *,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | None = None,
    attention: str | None = None,
    progress: bool = False,
) -> CausalLM:
    """Load a causal LM in evaluation mode; an adapter folder gives its base with the adapter on it.

    Args:
        name: `mini`, a model or adapter folder, or a hub id of either.
        dtype: Of the weights: `float32`, `bfloat16`, `float16`, or `auto` (float32 on a CPU, else the stored one).
        device: None takes the accelerator where there is one, else the CPU.
        attention: A transformers attention implementation such as `eager`; None takes the model's default.
        progress: Show transformers' bar. Downloads show the hub's own, which `HF_HUB_DISABLE_PROGRESS_BARS=1` hides.

    Raises:
        ModelError: The model is missing, broken, pickled, in need of remote code, or no causal LM.
        ConfigError: `dtype` or `device` is not one that exists.

    Example:
        >>> model = load_model("mini", device="cpu")
        >>> model.name_or_path, model.dtype, model.training
        ('mini', torch.float32, False)
    """
    target = _device(device)
    folder = model_folder(name)
    if not (folder / "adapter_config.json").is_file():
        return _load_causal_lm(name, folder, _dtype(dtype, name, target), attention, progress).to(target)
    base = load_model(base_in(folder), dtype=dtype, device=target, attention=attention, progress=progress)
    if isinstance(base, PeftModel):
        raise ModelError(f"{name} is an adapter on {base.name_or_path}, itself an adapter; merge that one first")
    return _load_adapter(name, folder, base)


def attach_adapter(base: PreTrainedModel, name: str) -> PeftModel:
    """Put an adapter on a loaded base; `detach_adapter` gives the base back.

    Raises:
        ModelError: The adapter is missing, broken, pickled, or made for another architecture.
    """
    return _load_adapter(name, model_folder(name), base)


def detach_adapter(model: PeftModel) -> PreTrainedModel:
    """The base without its adapter, number for number what it was before `attach_adapter`."""
    return model.unload() if isinstance(model.base_model, BaseTuner) else model.get_base_model()


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model or an adapter; an adapter folder without one has its base's.

    It pads on the right, with the end token where it has no padding token.

    Raises:
        ModelError: There is no tokenizer, it is broken, or it cannot tell where in the text a token lies.

    Example:
        >>> load_tokenizer("mini")("hi")["input_ids"]
        [1, 104, 105]
    """
    folder = model_folder(name)
    if not any((folder / file).is_file() for file in _TOKENIZER_FILES):
        if (folder / "adapter_config.json").is_file():
            return load_tokenizer(base_in(folder))
        raise ModelError(f"{name} holds no tokenizer; save one beside the model (tokenizer.save_pretrained)")
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except _BROKEN as error:
            raise ModelError(f"cannot load the tokenizer of {name}: {first_line(error)}") from error
    if not tokenizer.is_fast:
        raise ModelError(f"the tokenizer of {name} gives no offsets; keepshot needs one with a tokenizer.json")
    tokenizer.name_or_path = base_name(name)
    tokenizer.padding_side = "right"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def base_dtype(name: str) -> torch.dtype:
    """The dtype in which a model's weights are stored; that of its base for an adapter.

    Raises:
        ModelError: As `load_model`.

    Example:
        >>> base_dtype("mini")
        torch.bfloat16
    """
    folder = model_folder(name)
    if (folder / "adapter_config.json").is_file():
        return base_dtype(base_in(folder))
    config = read_settings(folder / "config.json")
    declared = config.get("dtype") or config.get("torch_dtype")
    if declared in DTYPES:
        return DTYPES[declared]
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(_no_weights(name, folder))
    return stored_dtype(weights)


def context_length(model: CausalLM) -> int:
    """Tokens that a model can read at once, by its config; `DEFAULT_CONTEXT` where the config states no limit.

    Example:
        >>> context_length(load_model("mini", device="cpu"))
        1024
    """
    settings = model.config.get_text_config().to_dict()
    stated = (settings.get(key) for key in _CONTEXT_KEYS)
    return next((length for length in stated if isinstance(length, int) and length > 0), DEFAULT_CONTEXT)


def _load_causal_lm(
    name: str, folder: Path, dtype: torch.dtype, attention: str | None, progress: bool
) -> PreTrainedModel:
    _check_architecture(name, folder)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(_no_weights(name, folder))
    with quiet(progress):
        try:
            model, report = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except _BROKEN as error:
            raise ModelError(f"cannot load {name}: {first_line(error)}") from error
    # transformers fills absent weights with random numbers and only logs it.
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"{name} is incomplete: {len(missing)} parameters are not in its files, {missing[0]} for one")
    model.name_or_path = model.config.name_or_path = base_name(name)
    return model.eval()


def _load_adapter(name: str, folder: Path, base: PreTrainedModel) -> PeftModel:
    if not (folder / "adapter_model.safetensors").is_file():
        raise ModelError(f"{name} holds no adapter_model.safetensors; pickled adapters are not loaded, save it anew")
    with peft_warnings():
        try:
            model = PeftModel.from_pretrained(base, folder, torch_device=str(base.device))
        except (*_BROKEN, UserWarning) as error:
            raise ModelError(f"cannot load the adapter {name}: {first_line(error)}") from error
    if model.active_peft_config.is_prompt_learning:
        raise ModelError(
            f"{name} is a soft prompt ({model.active_peft_config.peft_type.value}) and no model; name the model that "
            f"it was trained for: keepshot eval MODEL --prompt {name}"
        )
    return model.eval()


def _check_architecture(name: str, folder: Path) -> None:
    settings = read_settings(folder / "config.json")
    model_type = settings.get("model_type")
    if model_type not in CONFIG_MAPPING:
        if "auto_map" in settings:
            raise ModelError(
                f"{name} needs code from its own repository, which keepshot does not run; use another model"
            )
        raise ModelError(f"{name} has model type {model_type!r}, unknown to the installed transformers; update it")
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except _BROKEN as error:
        raise ModelError(f"cannot read the config of {name}: {first_line(error)}") from error
    architecture = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type)
    stated = settings.get("architectures") or [architecture]
    causal = architecture in stated or any(one.endswith(("ForCausalLM", "LMHeadModel")) for one in stated)
    if config.is_encoder_decoder or architecture is None or not causal:
        what = stated[0] or model_type
        raise ModelError(f"{name} is a {what}; keepshot tunes decoder-only causal language models (…ForCausalLM)")


@contextmanager
def peft_warnings() -> Iterator[None]:
    """Raise PEFT's warning that an adapter lacks weights (it fills in fresh ones); drop one about its own code."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys", category=UserWarning)
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        yield


@contextmanager
def quiet(progress: bool = False) -> Iterator[None]:
    """Keep transformers' bars and warnings off the screen while it loads or saves; both return afterwards.

    What matters among them, such as missing weights, keepshot raises itself.

    Args:
        progress: Leave the bars.

    Example:
        >>> with quiet():
        ...     logging.is_progress_bar_enabled()
        False
        >>> logging.is_progress_bar_enabled()
        True
    """
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not progress:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        # A CUDA build names CUDA as its accelerator on machines without one, too.
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device {device!r} does not exist; use cpu, cuda, cuda:1, mps, …") from error


def _dtype(dtype: str | torch.dtype, name: str, device: torch.device) -> torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else base_dtype(name)
    if dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is not one of auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def _no_weights(name: str, folder: Path) -> str:
    pickled = [file.name for file in sorted(folder.iterdir()) if file.suffix in {".bin", ".pt", ".pth", ".ckpt"}]
    found = f"only pickled weights ({pickled[0]}), which can run code" if pickled else "no weights"
    return f"{name} has {found}; keepshot loads safetensors, which save_pretrained writes"
