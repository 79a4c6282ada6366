"""Host arrays to device tensors and back, and the number formats features are stored in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spcli.engines.cuda.launch import device, only_outside_frames

# tf32 is float32 whose last 13 bits are zero: it keeps float32's range and 10 bits of mantissa.
STORAGE = {"float32": torch.float32, "tf32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def empty(shape: int | tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor on the device."""
    return torch.empty(shape, dtype=dtype, device=device())


def upload(array: NDArray[Any], dtype: str = "float32") -> Tensor:
    """A copy of a host array on the device; float arrays in the storage format of `dtype`, tf32 rounded."""
    only_outside_frames("an upload")
    tensor = torch.from_numpy(np.array(array, order="C")).to(device())
    if tensor.dtype != torch.float32:
        return tensor
    return rounded_to_tf32(tensor) if dtype == "tf32" else tensor.to(STORAGE[dtype])


def download(tensor: Tensor, count: int | None = None) -> NDArray[Any]:
    """The first `count` rows as a host array that the caller owns; features of any format as float32."""
    only_outside_frames("a download")
    rows = tensor[:count].detach().cpu()
    if rows.dtype in (torch.float16, torch.bfloat16):
        rows = rows.float()  # here, and not on the device: half the bytes are copied
    return np.array(rows.numpy(), order="C")


def rounded_to_tf32(tensor: Tensor) -> Tensor:
    """float32 rounded to the nearest tf32 (ties away from zero); what is not finite stays as it is.

    The tensor cores ignore the low 13 bits, which alone would cut towards zero.
    """
    bits = tensor.view(torch.int32)
    rounded = ((bits + 0x1000) & ~0x1FFF).view(torch.float32)
    return torch.where(torch.isfinite(tensor), rounded, tensor)
