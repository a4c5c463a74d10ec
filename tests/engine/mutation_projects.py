"""The material of the mutation law: small projects from `mutation/*.txt`, their mutants and their harmless edits.

A project in these texts:

    === name [dynamic] [opaque] [entry=module:qualname] [step=variable] [also=variable]
    --- app.py                          each file; `import penstock as ps` is put in front of the one with the step,
    ...                                 and a second step and a flow behind it
    change FILE: OLD => NEW             an edit that must change the digest if it changes the step's result
    change +FILE: TEXT                  likewise, by a new file
    keep FILE: OLD => NEW               an edit that must leave the digest as it is

The step is `go` of `app.py` where nothing else is said; it is called with 3 and what `also` names.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

FOLDER = Path(__file__).parent / "mutation"
Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef

PREFIX = "import penstock as ps\n\n\n"
SUFFIX = """

@ps.step
def bystander(x):
    return x + 1000


flow = ps.Flow({step}.ref(ps.Param("x", 1)), bystander(ps.Param("x", 2)), name="first")
"""


@dataclass(frozen=True)
class Edit:
    """A change to one file of a project.

    Attributes
    ----------
    text : str
        The file after it.
    replaces : frozenset of (int, str)
        First line and name of the code objects that it replaces; of a class, also of its methods.
    """

    file: str
    label: str
    text: str
    replaces: frozenset[tuple[int, str]] = frozenset()


@dataclass
class Project:
    """A project as text.

    Attributes
    ----------
    dynamic : bool
        It reaches code by means that cannot be followed, so more than what it runs may count.
    opaque : bool
        It may be called not cacheable: where its code is cannot be known before it runs.
    """

    name: str
    entry: str
    step: str
    dynamic: bool
    opaque: bool
    also: list[str]
    files: dict[str, str] = field(default_factory=dict)
    changes: list[Edit] = field(default_factory=list)
    keeps: list[Edit] = field(default_factory=list)

    @property
    def main(self) -> str:
        """The file that declares the step."""
        return self.entry.partition(":")[0].replace(".", "/") + ".py"


def projects() -> list[Project]:
    """All projects of the folder."""
    found = []
    for path in sorted(FOLDER.glob("*.txt")):
        for text in re.split(r"^=== ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            found.append(_project(text))
    return found


def _project(text: str) -> Project:
    head, _, body = text.partition("\n")
    name, *words = head.split()
    options = dict(word.split("=", 1) for word in words if "=" in word)
    entry = options.get("entry", "app:go")
    step = options.get("step", entry.partition(":")[2])
    also = options["also"].split(",") if "also" in options else []
    project = Project(name, entry, step, "dynamic" in words, "opaque" in words, also)
    notes = re.findall(r"^(change|keep) (\S+): (.*)$", body, flags=re.MULTILINE)
    body = re.sub(r"^(change|keep) \S+: .*\n", "", body, flags=re.MULTILINE)
    for part in re.split(r"^--- ", body, flags=re.MULTILINE)[1:]:
        file, _, source = part.partition("\n")
        project.files[file] = source
    project.files[project.main] = PREFIX + project.files[project.main] + SUFFIX.replace("{step}", step)
    for kind, file, note in notes:
        (project.changes if kind == "change" else project.keeps).append(_written(project, file, note))
    return project


def _written(project: Project, file: str, note: str) -> Edit:
    """An edit that stands in the project's text: `old => new`, or the whole text of a new file."""
    note = note.replace("\\n", "\n")
    if file.startswith("+"):
        return Edit(file[1:], f"{file[1:]} appears", note)
    old, arrow, new = note.partition(" => ")
    assert arrow, note
    assert project.files[file].count(old) == 1, (project.name, old)
    return Edit(file, f"{file}: {old!r} becomes {new!r}", project.files[file].replace(old, new))


# ── mutants ──────────────────────────────────────────────────────────────────────────────────────────────────


def mutants(project: Project) -> list[Edit]:
    """Every definition with another body, every constant another, every statement at top left out, and `changes`."""
    found = list(project.changes)
    for file, text in project.files.items():
        tree = ast.parse(text)
        last = len(text.splitlines()) - SUFFIX.count("\n") if file == project.main else len(text.splitlines())
        if file == project.main:
            tree.body = [node for node in tree.body if node.lineno <= last and not _is_prefix(node)]
        tail = text.splitlines(keepends=True)[last:] if file == project.main else []
        head = PREFIX if file == project.main else ""
        for label, replaces, change in [*_definitions(tree), *_constants(tree), *_statements(tree)]:
            changed = copy.deepcopy(tree)
            change(changed)
            new = head + ast.unparse(ast.fix_missing_locations(changed)) + "\n\n" + "".join(tail)
            found.append(Edit(file, f"{file}: {label}", new, replaces))
    return found


def _is_prefix(node: ast.stmt) -> bool:
    return isinstance(node, ast.Import) and node.names[0].name == "penstock"


Change = tuple[str, frozenset[tuple[int, str]], Callable[[ast.Module], None]]


def _definitions(tree: ast.Module) -> Iterator[Change]:
    """Each function returns something else, each class has one more attribute, each comprehension other elements."""
    for index, node in enumerate(ast.walk(tree)):
        if isinstance(node, Definition):
            own = _code_name(node)
            methods = [n for n in node.body if isinstance(n, Function)] if isinstance(node, ast.ClassDef) else []
            replaces = frozenset([own, *map(_code_name, methods)])
            yield f"line {own[0]}: {own[1]}: other body", replaces, _at(index, _other_body)
        elif isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            name = {ast.ListComp: "<listcomp>", ast.SetComp: "<setcomp>", ast.DictComp: "<dictcomp>"}.get(
                type(node), "<genexpr>"
            )
            replaces = frozenset([(node.lineno, name)])
            yield f"line {node.lineno}: {name}: other elements", replaces, _at(index, _other_body)


def _code_name(node: Definition) -> tuple[int, str]:
    """First line and name of a definition's code object."""
    return first_line(node), "<lambda>" if isinstance(node, ast.Lambda) else node.name


def first_line(node: ast.AST) -> int:
    """The line that a code object names: that of the first decorator where there is one."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(d.lineno for d in decorators)])


def _at(index: int, change: Callable[[ast.AST], None]) -> Callable[[ast.Module], None]:
    """The change, at the node with this number in walking order."""

    def apply(tree: ast.Module) -> None:
        change(list(ast.walk(tree))[index])

    return apply


def _other_body(node: ast.AST) -> None:
    mutant = ast.Constant("mutant")
    if isinstance(node, ast.ClassDef):
        node.body.append(ast.Assign([ast.Name("mutant_", ast.Store())], mutant))
    elif isinstance(node, Function):
        node.body = [ast.Return(mutant)]
    elif isinstance(node, ast.Lambda):
        node.body = mutant
    elif isinstance(node, ast.DictComp):
        node.value = ast.Tuple([node.value, mutant], ast.Load())
    else:
        node.elt = ast.Tuple([node.elt, mutant], ast.Load())


def _constants(tree: ast.Module) -> Iterator[Change]:
    """Each number, text and truth value becomes another."""
    for index, node in enumerate(ast.walk(tree)):
        if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float | str):
            yield f"line {node.lineno}: {node.value!r}: other constant", frozenset(), _at(index, _other_constant)


def _other_constant(node: ast.AST) -> None:
    value = node.value
    node.value = not value if isinstance(value, bool) else value + "_" if isinstance(value, str) else value + 1


def _statements(tree: ast.Module) -> Iterator[Change]:
    """Each statement of the module's and the classes' bodies is left out."""
    for index, node in enumerate(ast.walk(tree)):
        if not isinstance(node, ast.Module | ast.ClassDef):
            continue
        for place, statement in enumerate(node.body):
            label = f"line {statement.lineno}: {ast.unparse(statement).splitlines()[0]}: left out"
            yield label, frozenset(), _at(index, _without(place))


def _without(place: int) -> Callable[[ast.AST], None]:
    def apply(node: ast.AST) -> None:
        node.body[place] = ast.Pass()

    return apply


# ── harmless edits ───────────────────────────────────────────────────────────────────────────────────────────


SPARE = "\n\ndef spare_helper(x):\n    return x + 4321\n"
DECLARED = (
    ("another step's body", "x + 1000", "x * 2000"),
    ("the declaration", 'name="first"', 'name="second"'),
    ("a parameter's default", 'ps.Param("x", 1)', 'ps.Param("x", 7)'),
    ("a name more in the declaration", "flow = ps", "spare_param = ps.Param('y', 1)\nflow = ps"),
)


def harmless(project: Project) -> list[Edit]:
    """Edits that must leave the digest as it is; those that a whole module would count only where all is followed."""
    found = list(project.keeps)
    for file, text in _written_files(project):
        tree = ast.parse(text)
        found.append(Edit(file, f"{file}: reformatted", ast.unparse(tree) + "\n"))
        found.append(Edit(file, f"{file}: comments and blank lines", _commented(text)))
        found.append(Edit(file, f"{file}: docstrings", _documented(text)))
        if not project.dynamic:
            found.append(Edit(file, f"{file}: an unused helper", text + SPARE))
            found.append(Edit(file, f"{file}: an unused helper in front", _in_front(text)))
    if not project.dynamic:
        text = project.files[project.main]
        for label, old, new in DECLARED:
            found.append(Edit(project.main, f"{project.main}: {label}", text.replace(old, new)))
    return found


def all_harmless(project: Project) -> dict[str, str]:
    """The files after all harmless edits at once but the project's own `keeps`."""
    found = {}
    for file, text in _written_files(project):
        new = text
        if not project.dynamic:
            for _, old, other in DECLARED if file == project.main else ():
                new = new.replace(old, other)
            new = _in_front(new) + SPARE.replace("spare", "another_spare")
        found[file] = _commented(_documented(new))
    return found


def _written_files(project: Project) -> list[tuple[str, str]]:
    return [(file, text) for file, text in project.files.items() if text.strip()]


def _in_front(text: str) -> str:
    """The spare helper above everything that may stand below it."""
    body = ast.parse(text).body
    lines = text.splitlines(keepends=True)
    place = max([node.lineno for node in body if getattr(node, "module", "") == "__future__"], default=0)
    return "".join([*lines[:place], SPARE, *lines[place:]])


def _commented(text: str) -> str:
    """A comment and blank lines before every statement."""
    tree, lines = ast.parse(text), text.splitlines()
    for node in sorted({first_line(n): n for n in ast.walk(tree) if isinstance(n, ast.stmt)}.items(), reverse=True):
        place, statement = node
        before = lines[place - 1][: statement.col_offset]
        if not before.strip():
            lines[place - 1 : place - 1] = ["", f"{before}# a remark", ""]
    return "\n".join(lines) + "\n# the end\n"


def _documented(text: str) -> str:
    """A docstring in every module, class and function that has none, in the layout of `ast.unparse`."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef | ast.Module) and ast.get_docstring(node) is None:
            node.body.insert(0, ast.Expr(ast.Constant("What this is for.")))
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"
