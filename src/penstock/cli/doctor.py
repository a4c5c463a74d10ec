"""`penstock doctor`: what holds here and where it comes from."""

from __future__ import annotations

from typing import Any

from penstock.cli.options import Env, Json, Quiet

EPILOG = "Exit codes: 0 all is well; 1 something does not work, told in the last lines."


def command(env: Env = None, as_json: Json = False, quiet: Quiet = False) -> int:
    """Look and tell."""
    from penstock.cli.output import clean, document, paint, say
    from penstock.cli.projects import here
    from penstock.lifecycle.checkup import checkup

    found = checkup(here(env=env, make=False))
    code = 1 if found["problems"] else 0
    if as_json:
        document(found | {"exit_code": code})
        return code
    if not quiet:
        for line in _lines(found):
            say(line)
    for text in found["problems"]:
        say(paint(f"✗ {clean(text)}", "red"))
    if not found["problems"]:
        say(paint("✓ all is well", "green"))
    return code


def _lines(found: dict[str, Any]) -> list[str]:
    from penstock.cli.output import columns

    rows = [["root", found["root"], ""]]
    for name, one in found["configuration"].items():
        value = one["value"]
        text = (
            "not set" if value is None else ", ".join(value) or "nothing" if isinstance(value, list | tuple) else value
        )
        rows.append([name, "one a core" if name == "jobs" and not value else str(text), f"({one['origin']})"])
    ledger, machine = found["ledger"], found["machine"]
    if "server" in ledger:
        releases = {True: "may release", False: "may not release", None: "no role decides who releases"}
        rows.append(["database", f"{ledger['server']}, {releases[ledger['may_release']]}", ""])
    else:
        rows.append(["sqlite", f"{found['sqlite']}, journal {ledger['journal'] or 'not made yet'}", ""])
    rows.append(["python", f"{found['python']} on {machine['system']}, {machine['cpu']}", ""])
    rows += [[name, version or "missing", ""] for name, version in found["libraries"].items()]
    for extra, absent in found["extras"].items():
        hint = f"pip install 'penstock[{extra}]'" if absent else ""
        rows.append([f"[{extra}]", f"lacks {', '.join(absent)}" if absent else "installed", hint])
    return columns(["", "", ""], rows)[1:]
