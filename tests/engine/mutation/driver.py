"""Imports one small project per forked child, runs its step under a tracer and digests its code.

A process of its own, so that projects neither meet one another nor the test's modules. One request and one answer a
line, as JSON on standard input and output. Folders and modules that tests share are given on the command line.
"""

import ast
import hashlib
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from json import dumps  # a project may patch `json`

LIMIT_S = 5.0


def entry_only(root, entry):
    """A crippled digest, which the law must refuse: the entry's own definition and nothing that it calls."""
    module, _, name = entry.partition(":")
    with open(os.path.join(root, *module.split(".")) + ".py", encoding="utf-8") as file:
        tree = ast.parse(file.read())
    found = [ast.dump(n) for n in ast.walk(tree) if getattr(n, "name", None) == name.split(".")[-1]]
    return hashlib.sha256("".join(found).encode()).hexdigest()


def whole_tree(root, entry):
    """A crippled digest of the other kind: every byte of every file, so that comments count."""
    digest = hashlib.sha256()
    for folder, _, names in sorted(os.walk(root)):
        for name in sorted(names):
            if name.endswith(".py"):
                with open(os.path.join(folder, name), "rb") as file:
                    digest.update(name.encode() + b"\0" + file.read() + b"\0")
    return digest.hexdigest()


def closure(root, entry, also, cache=None):
    """The digest under test; a cache is written as after a run."""
    from penstock.engine.closure import Closure

    try:
        made = Closure(root, cache=cache)
        part = made.of(entry, also)
        if cache:
            made.save()
    except Exception as problem:
        return {"digest": "", "parts": {}, "uncacheable": "", "fault": f"{type(problem).__name__}: {problem}"}
    return {"digest": part.digest, "parts": dict(part.parts), "uncacheable": part.uncacheable}


def digests(request, also):
    """The digest under test, and the crippled ones."""
    root, entry = request["root"], request["entry"]
    found = closure(root, entry, also)
    if request.get("cache"):
        found["cached"] = closure(root, entry, also, request["cache"])["digest"]
    if request.get("crippled"):
        found |= {"entry_only": entry_only(root, entry), "whole_tree": whole_tree(root, entry)}
    return found


class Recorder:
    """Which code objects of the project ran, as [file, first line, name]."""

    def __init__(self, root):
        self.root = os.path.join(root, "")
        self.seen = set()

    def __call__(self, frame, event, arg):
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(self.root):
            self.seen.add((code.co_filename[len(self.root) :], code.co_firstlineno, code.co_name))

    def __enter__(self):
        threading.setprofile(self)
        sys.setprofile(self)
        return self

    def __exit__(self, *problem):
        sys.setprofile(None)
        threading.setprofile(None)


def write(root, files):
    """Write files, and take away those whose text is None."""
    for path, text in files.items():
        full = os.path.join(root, path)
        if text is None:
            if os.path.exists(full):
                os.unlink(full)
            continue
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)


def load(request):
    """The project's module and the arguments of its step, in the folder where the project expects to be."""
    os.chdir(request.get("cwd", request["root"]))
    sys.path.insert(0, request["root"])
    module = importlib.import_module(request["entry"].partition(":")[0])
    return module, [getattr(module, name) for name in request["also"]]


def call(module, request, also, recorder=None):
    """What the step gives, as text, and which code objects ran."""
    step = getattr(module, request["step"])
    try:
        if recorder:
            with recorder:
                text = repr(step(3, *also))
        else:
            text = repr(step(3, *also))
    except BaseException as problem:
        text = f"raised {type(problem).__name__}: {problem}"
    return {"result": text, "executed": sorted(recorder.seen) if recorder else []}


def visit(request, say):
    """Import a project once, run its step under the tracer, then digest it as it is and after each edit."""
    module, also = load(request)
    first = digests(request, also)
    say(first | call(module, request, also, Recorder(request["root"])))
    for edit in request["edits"]:
        write(request["root"], edit["write"])
        say(digests(request | {"cache": edit.get("cache")}, also))
        write(request["root"], edit["restore"])


def trial(request, say):
    """Import a project with an edit, digest it and run its step, as a run would."""
    write(request["root"], request["edit"]["write"])
    try:
        module, also = load(request)
    except BaseException as problem:
        say({"import": f"{type(problem).__name__}: {problem}"})
        return
    first = digests(request, also)
    say(first)  # at once: the mutant may never come back
    say(call(module, request, also))


def serve_one(request):
    """Do what a request asks in a child that nothing outlives; a list of what the child said."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1):
            os.dup2(quiet, stream)
        # No handler: a mutant that loops is ended.
        signal.setitimer(signal.ITIMER_REAL, 60.0 if request["what"] == "visit" else LIMIT_S)
        try:
            do = {"visit": visit, "trial": trial}[request["what"]]
            do(request, lambda found: os.write(writing, dumps(found).encode() + b"\n"))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = [json.loads(line) for line in pipe.read().splitlines()]
    os.waitpid(child, 0)
    if request["what"] == "trial":
        write(request["root"], request["edit"]["restore"])
    return said


def main():
    sys.dont_write_bytecode = True  # mutants of one second and one size would be taken for one another
    answers = os.fdopen(os.dup(1), "w")
    import penstock

    for name in ("Flow", "step", "Param", "read"):
        getattr(penstock, name)  # bound here once, not in each child
    import penstock.engine.closure

    for line in sys.stdin:
        print(dumps(serve_one(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
