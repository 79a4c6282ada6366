"""What the engines on torch tensors share: number formats, rounding, and what torch says when memory is short."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spcli.engines.base import LayerParameters
from spcli.engines.driver import ask_driver

# tf32 is float32 whose last 13 bits are zero: it keeps float32's range and 10 bits of mantissa.
STORAGE = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

SMALLER = "use larger voxels, a smaller range or --dtype float16"
_SIZES = re.compile(
    r"Tried to allocate ([\d.]+ \w+).* total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free", re.S
)


def rounded_to_tf32(tensor: Tensor) -> Tensor:
    """float32 rounded to the nearest tf32 (ties away from zero); what is not finite stays as it is.

    The tensor cores ignore the low 13 bits, which alone would cut towards zero.
    """
    bits = tensor.view(torch.int32)
    rounded = ((bits + 0x1000) & ~0x1FFF).view(torch.float32)
    return torch.where(torch.isfinite(tensor), rounded, tensor)


def stored(tensor: Tensor, dtype: str) -> Tensor:
    """float32 values in the storage format of `dtype`, tf32 rounded."""
    return rounded_to_tf32(tensor) if dtype == "tf32" else tensor.to(STORAGE[dtype])


def rounded_weights(values: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    """float64 values rounded once, to the nearest of a format; an array that holds them exactly."""
    values = np.ascontiguousarray(values)
    with np.errstate(over="ignore"):
        if dtype == "float16":
            return values.astype(np.float16)
        bits = values.view(np.int64)
        if dtype == "tf32":  # 10 of 52 bits of mantissa, ties away from zero
            bits = (bits + (1 << 41)) & -(1 << 42)
        elif dtype == "bfloat16":  # 7 of 52, ties to even
            bits = (bits + ((1 << 44) - 1) + ((bits >> 45) & 1)) & -(1 << 45)
        return np.where(np.isfinite(values), bits.view(np.float64), values).astype(np.float32)


def weights_of(parameters: LayerParameters, dtype: str) -> NDArray[Any]:
    """A layer's weight `[V, Cout, Cin]` with its scale folded in, rounded once to `dtype`."""
    assert parameters.weight is not None
    out_channels, in_channels = parameters.weight.shape[0], parameters.weight.shape[-1]
    weight = parameters.weight.reshape(out_channels, -1, in_channels).astype(np.float64)
    if parameters.scale is not None:
        weight *= np.asarray(parameters.scale, np.float64)[:, None, None]
    return rounded_weights(weight.transpose(1, 0, 2), dtype)


def to_host(tensor: Tensor, count: int | None = None) -> NDArray[Any]:
    """The first `count` rows as a host array that the caller owns; features of any format as float32."""
    rows = tensor[:count].detach().cpu()
    if rows.dtype in (torch.float16, torch.bfloat16):
        rows = rows.float()  # here, and not on the device: half the bytes are copied
    return np.array(rows.numpy(), order="C")


@cache
def torch_identity(device: str) -> dict[str, str]:
    """What of torch and its device decides results: `card`, `driver` (the newest CUDA that it serves) and `torch`."""
    if device == "cpu":
        return {"torch": str(torch.__version__)}
    driver = torch.version.hip or ask_driver().release
    return {"card": torch.cuda.get_device_name(), "driver": driver, "torch": str(torch.__version__)}


def memory_sentence(message: str) -> str:
    """torch's message on too little memory as one sentence: what was asked for and what is free, where it says so."""
    sizes = _SIZES.search(message)
    if sizes is None:
        return f"the device has not enough memory ({message.splitlines()[0]}); {SMALLER}"
    wanted, total, free = sizes.groups()
    return f"the device has not enough memory: {wanted} asked for, {free} of {total} free; {SMALLER}"
