"""Many processes that begin one thing at one moment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any


def together(number: int, do: Callable[[int], Any]) -> list[Any]:
    """Fork so many children that start at one moment; give what each returned, as JSON.

    Parameters
    ----------
    number : int
    do : callable
        Called in each child with its index, from 0.

    Raises
    ------
    RuntimeError
        A child failed; what it said is on standard error.

    Examples
    --------
    >>> together(3, lambda index: index * 2)
    [0, 2, 4]
    """
    start_read, start_write = os.pipe()
    children = []
    for index in range(number):
        out_read, out_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(start_write)
                os.read(start_read, 1)
                with os.fdopen(out_write, "w") as file:
                    file.write(json.dumps(do(index)))
                os._exit(0)
            except BaseException as error:
                os.write(2, f"child {index}: {error!r}\n".encode())
                os._exit(1)
        os.close(out_write)
        children.append((pid, out_read))
    os.close(start_read)
    os.close(start_write)
    results, failed = [], []
    for index, (pid, out) in enumerate(children):
        with os.fdopen(out, "rb") as pipe:
            text = pipe.read()
        if os.waitpid(pid, 0)[1]:
            failed.append(index)
        else:
            results.append(json.loads(text))
    if failed:
        raise RuntimeError(f"children {failed} failed")
    return results
