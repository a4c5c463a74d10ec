"""Steps and the references that they promise: what a user joins into a DAG by calling functions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, ParamSpec, TypeVar, overload

from penstock.core.resources import Resources, memory_bytes
from penstock.core.secret import Secret
from penstock.errors import DeclarationError, RefUseError

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class Param:
    """A named value that a run may set: `penstock run churn.py --param since=2026-01-01`.

    Parameters
    ----------
    name : str
    default : None, bool, int, float or str
        Used when the run does not set it; also says how a text from the command line is read.
    """

    name: str
    default: Any = None


@dataclass(frozen=True)
class Options:
    """How the engine runs a step; none of it is part of the recipe but `outputs`.

    `across_rows` and `because` are part of the proof's recipe: what the user says of a step to the audit.
    """

    retries: int = 0
    backoff_s: float = 1.0
    timeout_s: float | None = None
    memory: int | None = None
    outputs: tuple[str, ...] = ()
    across_rows: str = ""
    because: str = ""
    resources: Resources | None = None


@dataclass(eq=False)
class Call:
    """One call of a step with references among its arguments: a node of the DAG before it is described."""

    entry: str
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    options: Options
    kind: str = "step"
    function: Callable[..., Any] | None = None
    part: str = ""
    uncacheable: str = ""
    mapped: bool = False
    """The first argument is a list of items, and the function is called once for each."""


def _refuse(what: str, instead: str) -> Callable[..., NoReturn]:
    def method(self: Ref, *_args: object) -> NoReturn:
        raise RefUseError(
            f"`{object.__getattribute__(self, '_call').name}(…)` is a promised output, not a value yet: {what}",
            hint=instead,
        )

    return method


class Ref:
    """The promised output of a step. It is passed on to other steps; the value exists only while a run runs.

    Raises
    ------
    RefUseError
        When it is used as if it were the value: `bool()`, iteration, attributes, comparison, arithmetic.
    """

    __slots__ = ("_call", "_output")
    _INSTEAD = "pass it to a function marked @ps.step, which receives the value"

    def __init__(self, call: Call, output: str = "") -> None:
        object.__setattr__(self, "_call", call)
        object.__setattr__(self, "_output", output)

    def __repr__(self) -> str:
        call, output = object.__getattribute__(self, "_call"), object.__getattribute__(self, "_output")
        shown = f".{output}" if output and call.kind != "source" else ""  # of a source people mean the table
        return f"<Ref {call.name}{shown}>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith(("__", "_repr_", "_ipython_")):
            raise AttributeError(name)
        call = object.__getattribute__(self, "_call")
        raise RefUseError(
            f"`{call.name}(…)` has no attribute {name!r} yet: it is a promised output", hint=self._INSTEAD
        )

    __hash__ = object.__hash__
    __bool__ = _refuse("it is neither true nor false", "decide inside a step")
    __iter__ = _refuse("it cannot be iterated", "declare several outputs by @ps.step(outputs=(…))")
    __len__ = _refuse("it has no length", _INSTEAD)
    __getitem__ = _refuse("it has no items", _INSTEAD)
    __eq__ = _refuse("it cannot be compared", _INSTEAD)
    __ne__ = _refuse("it cannot be compared", _INSTEAD)
    __lt__ = __le__ = __gt__ = __ge__ = _refuse("it cannot be compared", _INSTEAD)
    __contains__ = _refuse("it contains nothing that could be looked for", _INSTEAD)
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __invert__ = _refuse("it cannot be computed with", _INSTEAD)
    __mod__ = __pow__ = __matmul__ = __abs__ = __float__ = __int__ = _refuse("it cannot be computed with", _INSTEAD)
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse("it cannot be computed with", _INSTEAD)
    __truediv__ = __rtruediv__ = __neg__ = __call__ = _refuse("it cannot be computed with", _INSTEAD)


def call_of(ref: Ref) -> Call:
    """The call that promised a reference."""
    call: Call = object.__getattribute__(ref, "_call")
    return call


def output_of(ref: Ref) -> str:
    """The output of its call that a reference stands for; "" when the call has one output."""
    output: str = object.__getattribute__(ref, "_output")
    return output


def promises(value: Any) -> bool:
    """Whether a Ref, a Param or a Secret stands anywhere in a value's nested lists, tuples and dicts."""
    if isinstance(value, Ref | Param | Secret):
        return True
    if type(value) in (list, tuple):
        return any(promises(item) for item in value)
    return type(value) is dict and any(promises(item) for item in value.values())


class Step:
    """A function marked `@step`: called with values it is the function; with a Ref, Param or Secret it promises."""

    def __init__(self, function: Callable[..., Any], options: Options) -> None:
        if not hasattr(function, "__qualname__"):
            raise DeclarationError(f"step: {repr(function)[:60]} is no function; mark one with @ps.step")
        self.function = function
        self.options = options
        self.name: str = function.__name__
        self.entry = f"{function.__module__}:{function.__qualname__}"
        functools.update_wrapper(self, function)

    def __repr__(self) -> str:
        return f"<Step {self.name}>"

    def __call__(self, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        """The function's value, or a promise of it when a Ref, a Param or a Secret is among the arguments."""
        if name is None and not promises(args) and not promises(kwargs):
            return self.function(*args, **kwargs)
        return self.ref(*args, name=name, **kwargs)

    def ref(self, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        """Promise the output of this call, also when no argument is a reference.

        Parameters
        ----------
        name : str, optional
            Step id, to tell two calls of one function apart.

        Returns
        -------
        Ref, or tuple of Ref
            One for each of the step's `outputs`.
        """
        return self._promised(Call(self.entry, name or self.name, args, kwargs, self.options, function=self.function))

    def map(self, items: Any, /, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        """Promise the outputs of one call for each item of a list, as a list in the order of the items.

        Parameters
        ----------
        items : list, tuple or Ref
            Plain values or references; or a reference to a list that an earlier step gives. Each becomes the first
            argument of a call.
        *args, **kwargs
            Further arguments, the same for all items.
        name : str, optional
            Step id, to tell two calls of one function apart.

        Returns
        -------
        Ref, or tuple of Ref
            One for each of the step's `outputs`: a list with a result for each item. An item whose result is known
            does not run again, whatever its place; equal items run once.

        Raises
        ------
        DeclarationError
            The items are no list, or the function does not take these arguments.

        Examples
        --------
        >>> @step
        ... def double(x: int) -> int:
        ...     return 2 * x
        >>> double.map([1, 2, 3])
        <Ref double>
        """
        if type(items) not in (list, tuple) and not isinstance(items, Ref):
            what = f"{self.name}.map: a list is meant, or a reference to one, not a {type(items).__name__}"
            raise DeclarationError(what, hint=f"{self.name}.map([…]), or list(…) of what can be gone through")
        call = Call(self.entry, name or self.name, (items, *args), kwargs, self.options, function=self.function)
        call.mapped = True
        return self._promised(call)

    def _promised(self, call: Call) -> Any:
        try:
            signature = inspect.signature(self.function, follow_wrapped=False)
        except ValueError:  # a function of C that does not tell
            signature = None
        try:
            if signature is not None:
                signature.bind(*call.args, **call.kwargs)
        except TypeError as error:
            item = "; the item is its first argument" if call.mapped else ""
            raise DeclarationError(f"{self.name}: {error}", hint=f"it takes {self.name}{signature}{item}") from None
        if not self.options.outputs:
            return Ref(call)
        return tuple(Ref(call, output) for output in self.options.outputs)


@overload
def step(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def step(
    *,
    retries: int = ...,
    backoff_s: float = ...,
    timeout_s: float | None = ...,
    memory: str | int | None = ...,
    outputs: tuple[str, ...] = ...,
    across_rows: str = ...,
    audit: bool = ...,
    because: str = ...,
    resources: Resources | None = ...,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def step(
    function: Callable[..., Any] | None = None,
    /,
    *,
    retries: int = 0,
    backoff_s: float = 1.0,
    timeout_s: float | None = None,
    memory: str | int | None = None,
    outputs: tuple[str, ...] = (),
    across_rows: str = "",
    audit: bool = True,
    because: str = "",
    resources: Any = None,
) -> Any:
    """Mark a function as a step of a flow.

    Parameters
    ----------
    function : callable
    retries : int, default=0
        Tries after the first that failed, with exponential back-off from `backoff_s` seconds.
    timeout_s : float, optional
        Seconds for one try; then the step and all its children are ended.
    memory : str or int, optional
        Most resident memory of the step and its children, as "2GiB" or in bytes.
    outputs : tuple of str
        Names of several outputs; the function returns a tuple or a dict of them.
    across_rows : str, optional
        Why what a row takes from other rows is known at prediction time. What the audit then finds of the features
        that this step makes is a note with that reason.
    audit : bool, default=True
        False: the audit does not run the step again on other values, for the reason in `because`; the proof says so.
    because : str, optional
        Why it must not be run again, such as "calls a paid API".
    resources : Resources, optional
        Processors, memory and GPUs that it needs while it runs.

    Returns
    -------
    Step
        Typed as the function itself: a `Ref` is a fact of run time.

    Raises
    ------
    DeclarationError
        If an option has a value that it cannot have.

    Examples
    --------
    >>> @step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> double(21)
    42
    >>> double(Param("x", 1))
    <Ref double>
    """
    if function is not None:
        return Step(function, Options())
    faults = []
    if not isinstance(retries, int) or retries < 0:
        faults.append(f"step: retries={retries!r}: a whole number from 0")
    if timeout_s is not None and not timeout_s > 0:
        faults.append(f"step: timeout_s={timeout_s!r}: seconds above 0, or None")
    if len(set(outputs)) != len(outputs) or not all(str(o).isidentifier() for o in outputs):
        faults.append(f"step: outputs={outputs!r}: names, each once")
    faults += _answers(across_rows, because, audit=audit)
    if resources is not None and not isinstance(resources, Resources):
        faults.append(f"step: resources={resources!r}: ps.Resources(cpu=…, memory=…, gpu=…)")
    if faults:
        raise DeclarationError(faults)
    said = (across_rows.strip(), because.strip())
    options = Options(retries, backoff_s, timeout_s, memory_bytes(memory), tuple(outputs), *said, resources)
    return lambda f: Step(f, options)


def _answers(across_rows: Any, because: Any, *, audit: Any) -> list[str]:
    """What is wrong with what is said to the audit."""
    faults = []
    if not isinstance(across_rows, str):
        faults.append(f"step: across_rows={across_rows!r}: a sentence, why it is known at prediction time")
    if not isinstance(because, str):
        faults.append(f"step: because={because!r}: a sentence, why the step must not be run again")
    elif audit is False and not because.strip():
        faults.append("step: audit=False needs because=, the reason, which the proof tells")
    elif audit is True and because:
        faults.append("step: because= says why the audit leaves a step out: audit=False is missing")
    if audit not in (True, False):
        faults.append(f"step: audit={audit!r}: True or False")
    return faults
