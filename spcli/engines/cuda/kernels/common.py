"""Device functions that several stems share. Everything here is carried out element by element."""

import triton
import triton.language as tl


@triton.jit
def activate(x, slope, ACTIVATION: tl.constexpr):
    """A float32 block through `ACTIVATION`; what is not a number stays so."""
    if ACTIVATION == "relu":
        x = tl.where(x < 0, 0.0, x)
    elif ACTIVATION == "leaky_relu":
        x = tl.where(x < 0, x * slope, x)
    elif ACTIVATION == "gelu":
        x = 0.5 * x * (1.0 + tl.math.erf(x * 0.7071067811865476))
    return x


@triton.jit
def round_tf32(x):
    """float32 to the nearest tf32, ties away from zero; what is not finite stays as it is.

    The tensor cores ignore the low 13 bits, which alone would cut towards zero.
    """
    bits = x.to(tl.int32, bitcast=True)
    rounded = ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
    return tl.where((bits & 0x7F800000) == 0x7F800000, x, rounded)


@triton.jit
def whole_rows(total):
    """`total` rounded up to 16: so many columns of a table are defined.

    The compiler knows that this limit is a multiple, and loads and stores 16 bytes at once.
    """
    return (total + 15) // 16 * 16


@triton.jit
def popcount(word):
    """Bits that are set in each int64, as int32; the compiler knows the pattern and makes one instruction of it."""
    x = word.to(tl.uint64, bitcast=True)
    x = x - ((x >> 1) & 0x5555555555555555)
    x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0F
    return ((x * 0x0101010101010101) >> 56).to(tl.int32)
