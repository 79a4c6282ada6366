"""Makes Triton's interpreter faster without changing a result: most of its time goes to types, not to numbers.

The interpreter makes the same few types of blocks again for every operation, looks through Triton's modules for
functions to replace at every call of a device function, and works out integer overflows that it then does not report.
Here the types are remembered, the search is made once, and the overflows are left out. This follows the source of one
release: any other runs as it is, only slower.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

RELEASES = ("3.7.0", "3.7.1")

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
    return [*_types(), *_calls()]


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
