"""Makes Triton's interpreter faster without changing a result: most of its time goes to types, not to numbers.

The interpreter makes the same few types of blocks again for every operation, looks through Triton's modules for
functions to replace at every call of a device function, works out integer overflows that it then does not report, and
loads elements one by one. Here the types are remembered, the search is made once, the overflows are left out, and numpy
gathers what is loaded. This follows the source of one release: any other runs as it is, only slower.
"""

from __future__ import annotations

import ctypes
import inspect
import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

RELEASES = ("3.7.1",)

# Below this a load's fixed costs are larger than what its elements cost.
FEW = 256

Replacement = tuple[Any, str, Any]

_replaced: dict[tuple[Any, str], Any] = {}


@cache
def speed_up() -> None:
    """Replaces what is slow; nothing where Triton is another release or compiles its kernels."""
    for owner, name, value in replacements():
        _replaced[owner, name] = vars(owner)[name]
        setattr(owner, name, value)


def replaced() -> dict[tuple[Any, str], Any]:
    """What stood where something was replaced, by owner and attribute."""
    speed_up()
    return _replaced


def replacements() -> list[Replacement]:
    """What is replaced: owner, attribute, new value. Empty where nothing is to be replaced."""
    import triton

    if not triton.knobs.runtime.interpret or triton.__version__ not in RELEASES:
        return []
    return [*_types(), *_calls(), *_loads()]


def _types() -> Iterator[Replacement]:
    import triton.language.core as core
    from triton.runtime import interpreter

    yield core.dtype, "__eq__", _equal(core.dtype.__eq__)
    yield core.block_type, "__init__", _block_type(core.block_type.__init__)
    yield core.tensor, "__init__", _tensor
    yield interpreter, "_get_np_dtype", _by_name(interpreter._get_np_dtype)


def _calls() -> Iterator[Replacement]:
    from triton.runtime import interpreter

    # Without debug the interpreter evaluates its checks for overflow and drops the answer.
    options = interpreter.InterpreterOptions(sanitize_overflow=False)
    yield interpreter.interpreter_builder, "options", options
    yield interpreter, "_patch_lang", _patch_once(interpreter._patch_lang)
    yield interpreter, "_patch_builtin", _patch_found(interpreter._patch_attr)


def _loads() -> Iterator[Replacement]:
    from triton.runtime.interpreter import InterpreterBuilder

    yield InterpreterBuilder, "create_masked_load", _masked_load(InterpreterBuilder.create_masked_load)


def _equal(slow: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def equal(self: Any, other: Any) -> bool:
        return self is other or slow(self, other)

    return equal


def _block_type(slow: Callable[[Any, Any, Any], None]) -> Callable[[Any, Any, Any], None]:
    """All attributes of a type follow from its elements' type and its shape."""
    known: dict[Any, dict[str, Any]] = {}

    def block_type(self: Any, element_ty: Any, shape: Any) -> None:
        key = (element_ty.name, *(getattr(side, "value", side) for side in shape))
        if key not in known:
            slow(self, element_ty, shape)
            known[key] = vars(self) | {"of_tensors": _shape_of(self)}
        vars(self).update(known[key])

    return block_type


def _tensor(self: Any, handle: Any, type: Any) -> None:
    """A tensor's shape is its type's, and the same object for all tensors of the type."""
    attributes = vars(type)
    if "of_tensors" not in attributes:
        attributes["of_tensors"] = _shape_of(type)
    self.handle, self.type, self.dtype = handle, type, type.scalar
    self.numel, self.shape = attributes["of_tensors"]


def _shape_of(type: Any) -> tuple[Any, Any]:
    import triton.language.core as core

    shape = type.shape if type.is_block() else ()
    return core.constexpr(math.prod(shape)), core.tuple([core.constexpr(side) for side in shape])


def _by_name(slow: Callable[[Any], Any]) -> Callable[[Any], Any]:
    known: dict[str, Any] = {}

    def get_np_dtype(type: Any) -> Any:
        if type.name not in known:
            known[type.name] = slow(type)
        return known[type.name]

    return get_np_dtype


def _patch_once(slow: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Where a device function is called, the modules it sees have been replaced for its caller already."""
    import triton.language as language
    from triton.runtime.interpreter import _LangPatchScope

    def patch_lang(function: Any) -> Any:
        modules = [one for one in function.__globals__.values() if one is language or one is language.core]
        untouched = any(language.core.is_builtin(one.load) for one in modules)
        if untouched or language.core.is_builtin(language.tensor.__add__):
            return slow(function)
        return _LangPatchScope()

    return patch_lang


def _patch_found(patch: Callable[..., None]) -> Callable[..., None]:
    """What a module or class has to be replaced is looked for once."""
    from triton.language.core import is_builtin

    known: dict[int, list[str]] = {}

    def patch_builtin(owner: Any, builder: Any, scope: Any) -> None:
        if id(owner) not in known:
            known[id(owner)] = [name for name, member in inspect.getmembers(owner) if is_builtin(member)]
        for name in known[id(owner)]:
            member = getattr(owner, name)
            if is_builtin(member):
                patch(owner, name, member, builder, scope)

    return patch_builtin


def _masked_load(slow: Callable[..., Any]) -> Callable[..., Any]:
    from triton.runtime.interpreter import TensorHandle

    def create_masked_load(self: Any, pointers: Any, mask: Any, other: Any, *hints: Any) -> Any:
        if pointers.data.size < FEW:
            return slow(self, pointers, mask, other, *hints)
        type = pointers.get_element_ty()
        loaded = _load(pointers.data, mask.data, None if other is None else other.data, _np_dtype(type))
        return slow(self, pointers, mask, other, *hints) if loaded is None else TensorHandle(loaded, type)

    return create_masked_load


def _np_dtype(type: Any) -> np.dtype[Any]:
    from triton.runtime import interpreter

    found: np.dtype[Any] = interpreter._get_np_dtype(type)
    return found


def _load(addresses: np.ndarray, mask: np.ndarray, other: np.ndarray | None, dtype: np.dtype[Any]) -> Any:
    """What lies at the addresses whose mask is set, and `other` elsewhere; None where they cannot be gathered."""
    if mask.all():
        return _gathered(addresses, dtype)
    loaded = np.zeros(addresses.shape, dtype)
    if other is not None:
        loaded[...] = other
    if mask.any():
        values = _gathered(addresses[mask], dtype)
        if values is None:
            return None
        loaded[mask] = values
    return loaded


def _gathered(addresses: np.ndarray, dtype: np.dtype[Any]) -> Any:
    """Elements of memory; None where they do not lie whole elements apart. Only the memory at the addresses is read."""
    lowest = addresses.min()
    rows, apart = np.divmod(addresses - lowest, np.uint64(dtype.itemsize))
    if apart.any():
        return None
    span = ctypes.c_char * ((int(rows.max()) + 1) * dtype.itemsize)
    return np.frombuffer(span.from_address(int(lowest)), dtype)[rows.astype(np.int64)]
