"""Arrays in numpy's own format, never with pickle; headers are checked before any memory is asked for."""

from __future__ import annotations

import functools
import io
import math
from typing import TYPE_CHECKING, Any, Literal

from penstock.core.artifact import Artifact
from penstock.errors import FormatError, bounded

if TYPE_CHECKING:
    import numpy as np

    from penstock.core.ports import Objects
    from penstock.formats.format import Stage

MAX_HEADER = 10_000
"""Longest header in bytes; numpy's own limit for what it does not trust."""


def dump(value: Any, stage: Stage) -> Artifact:
    """Write an array of any shape; equal arrays of one dtype and memory order give equal bytes.

    Raises
    ------
    FormatError
        Objects inside, a subclass of ndarray, or a dtype with titles or metadata, which the format drops.
    """
    import numpy as np

    if type(value) is not np.ndarray:
        raise FormatError(
            f"A {type(value).__module__}.{type(value).__qualname__} would come back as a plain array.",
            hint="Return numpy.asarray(x), with a mask as an array of its own.",
        )
    if value.dtype.hasobject:
        raise FormatError(
            f"An array of dtype {bounded(str(value.dtype), 100)} holds Python objects, which only pickle could keep.",
            hint="Give it a dtype of its own (.astype(str), .astype(float)), or return a table.",
        )
    data = dumps(value)
    if _header(data)[1] != value.dtype:
        raise FormatError(f"The dtype {bounded(str(value.dtype), 100)} would not come back equal.")
    digest, size = stage(data)
    return Artifact(digest, "npy", size)


def load(artifact: Artifact, objects: Objects) -> Any:
    """Read an array back; a new, writable one.

    Raises
    ------
    FormatError, CorruptObjectError, MissingObjectError
    """
    return loads(objects.read(artifact.digest))


def dumps(array: np.ndarray[Any, Any]) -> bytes:
    """The array's bytes, with the padding of structured dtypes zeroed.

    Examples
    --------
    >>> import numpy as np
    >>> loads(dumps(np.arange(3.0)))
    array([0., 1., 2.])
    """
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    data = buffer.getvalue()
    if array.dtype.names is None:
        return data
    return data[: len(data) - array.nbytes] + _bytes_without_padding(array)


def loads(data: bytes) -> Any:
    """An array from bytes that nobody vouches for.

    Raises
    ------
    FormatError
        Not the npy format, objects inside, or a header that does not fit the bytes.
    """
    import numpy as np

    check(data)
    return np.load(io.BytesIO(data), allow_pickle=False, max_header_size=MAX_HEADER)


def check(data: bytes) -> None:
    """Hold the header against the bytes that follow it; nothing is allocated.

    Raises
    ------
    FormatError

    Examples
    --------
    >>> check(b"not an array")
    Traceback (most recent call last):
    ...
    penstock.errors.FormatError: These bytes are not an array in the npy format.
    """
    shape, dtype, start = _header(data)
    if dtype.hasobject:
        raise FormatError("This array holds pickled Python objects: refused, pickles are programs.")
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise FormatError(f"This array claims the shape {bounded(str(shape), 80)}, but its bytes are of another size.")


def _bytes_without_padding(array: Any) -> bytes:
    """The items of a structured array, with zeros in the bytes that belong to no field.

    What stands there is left over from earlier use of the memory (in numpy's own copies too), so the bytes of equal
    arrays would differ.
    """
    import numpy as np

    order: Literal["C", "F"] = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    clean = np.zeros(array.shape, array.dtype, order=order)
    _copy_fields(array, clean)
    return bytes(clean.ravel(order="K").view(np.uint8).data)


def _copy_fields(source: Any, target: Any) -> None:
    for name in source.dtype.names:
        if source.dtype[name].names is None:
            target[name] = source[name]
        else:
            _copy_fields(source[name], target[name])


def _header(data: bytes) -> tuple[tuple[int, ...], Any, int]:
    """Shape, dtype and the offset of the first item."""
    wide = data[6:7] != b"\x01"
    length = int.from_bytes(data[8:12] if wide else data[8:10], "little")
    start = (12 if wide else 10) + length
    if data[:6] != b"\x93NUMPY" or length > MAX_HEADER or len(data) < start:
        raise FormatError("These bytes are not an array in the npy format.")
    shape, dtype = _parse_header(bytes(data[:start]))
    return shape, dtype, start


@functools.lru_cache(maxsize=1024)
def _parse_header(head: bytes) -> tuple[tuple[int, ...], Any]:
    """Shape and dtype; the arrays of a forest have few different headers, and parsing one costs 0.1 ms."""
    from numpy.lib import format as npy_format

    stream = io.BytesIO(head)
    try:
        version = npy_format.read_magic(stream)
        if version == (1, 0):
            shape, _, dtype = npy_format.read_array_header_1_0(stream, max_header_size=MAX_HEADER)
        elif version in ((2, 0), (3, 0)):
            # Both have a four-byte length; version 3 differs by UTF-8 field names alone.
            shape, _, dtype = npy_format._read_array_header(  # type: ignore[attr-defined]  # noqa: SLF001
                stream, version=version, max_header_size=MAX_HEADER
            )
        else:
            raise ValueError(version)
    except Exception as error:  # numpy raises what its parser met
        raise FormatError("These bytes are not an array in the npy format.") from error
    if any(length < 0 for length in shape):
        raise FormatError("These bytes are not an array in the npy format.")
    return shape, dtype
