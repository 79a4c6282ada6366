"""Whether raw bytes are float32 numbers at all.

A `.bin` says nothing about its number format. LiDAR values lie between a tenth of a millimetre and a hundred
kilometres; read in the wrong format their exponents scatter over everything the format can express.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from spcli.errors import InputError

_PLAUSIBLE = (1e-4, 1e5)
# Half-precision expresses little beyond that range, so most bytes would look like sound float16: it is asked for more.
_PLAUSIBLE_FLOAT16 = (1e-3, 1e4)

# The share of plausible values from which float32 is not doubted. Less is no proof against it (one column in four may
# be a timestamp) but reason to see whether another format fits.
_TRUSTED = 0.9
# Below this share the bytes are refused even where no other format explains them.
_HOPELESS = 0.3
# The share another format must reach to be named.
_CONVINCING = 0.97

_OTHERS = (("float64", "<f8"), ("big-endian float32", ">f4"), ("float16", "<f2"))

_BLOCKS, _BLOCK_BYTES = 32, 512
_FEWEST_BYTES = 256


def check_float32(data: bytearray, source: str) -> None:
    """Refuse bytes that are numbers of another format.

    Too few bytes to judge pass.

    Raises:
        InputError: names the format the values make sense in, and how to convert them.
    """
    sample = _sample(data)
    if len(sample) < _FEWEST_BYTES:
        return
    share = _plausible_share(sample.view("<f4"))
    if share >= _TRUSTED and not _is_rounded_float64(sample):
        return
    for name, code in _OTHERS:
        if len(data) % np.dtype(code).itemsize == 0 and _plausible_share(sample.view(code)) >= _CONVINCING:
            raise InputError(
                f"{source}: holds {name} numbers, not float32; convert it: "
                f'numpy.fromfile(path, "{code}").astype("<f4").tofile(new_path)'
            )
    if share < _HOPELESS:
        raise InputError(
            f"{source}: does not hold float32 points ({100 * (1 - share):.0f} % of the values are beyond any LiDAR's); "
            "check what wrote it, or save the points as .npy"
        )


def _sample(data: bytearray) -> NDArray[np.uint8]:
    """Blocks of bytes spread evenly over the data, each starting on a multiple of 8."""
    usable = np.frombuffer(data, np.uint8, len(data) // 8 * 8)
    if len(usable) <= _BLOCKS * _BLOCK_BYTES:
        return usable
    starts = np.linspace(0, len(usable) - _BLOCK_BYTES, _BLOCKS).astype(np.intp) // 8 * 8
    return np.concatenate([usable[start : start + _BLOCK_BYTES] for start in starts])


def _plausible_share(values: NDArray[np.floating]) -> float:
    """The share of values that a scan could hold; infinities and the usual NaN do not count either way.

    Random mantissa bits give NaN of every kind, arithmetic gives one, so only NaN that are not the usual one tell
    against a format.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.abs(values.astype(np.float64))
    smallest, largest = _PLAUSIBLE_FLOAT16 if values.dtype.itemsize == 2 else _PLAUSIBLE
    good = (size == 0) | ((size >= smallest) & (size <= largest))
    ignored = np.isinf(size) | _is_usual_nan(values)
    judged = len(values) - int(np.count_nonzero(ignored))
    return np.count_nonzero(good) / judged if judged else 1.0


def _is_usual_nan(values: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether each value is the quiet NaN with an empty payload, of either sign."""
    native = values.astype(values.dtype.newbyteorder("="))
    bits = native.view(f"u{native.dtype.itemsize}")
    usual = np.array(np.nan, native.dtype).view(bits.dtype)
    sign = bits.dtype.type(1) << bits.dtype.type(8 * native.dtype.itemsize - 1)
    return np.asarray((bits | sign) == (usual | sign))


def _is_rounded_float64(sample: NDArray[np.uint8]) -> bool:
    """Whether every second word is zero: float64 of short fractions, whose float32 reading looks sound."""
    words = sample.view("<u4")
    return not words[::2].any() and bool(words[1::2].any())
