"""What a study asks for, kept with its ledger, and what has changed when it is asked for again.

Plain values in, sentences out. Knows neither the search nor the trials.
"""

from __future__ import annotations

from typing import Any

from engram.sweeps.study.configuration import Study

# Sections that say how a study is run and recorded: changing them leaves every result as it is.
FREE = ("search", "scheduler", "resources", "budget", "faults", "checkpoint", "measures")
EXECUTED = "replicas.stack"  # how replicas are executed leaves the result alone
MISSING = object()

Definition = dict[str, Any]


def describe(study: Study) -> Definition:
    """What determines a study's trials, as JSON values: nothing secret, and no addresses."""
    sections = study.model_dump(mode="json", include=set(FREE))
    return {
        "base": study.configure().dotted(),
        "sweep": {key: str(axis) for key, axis in study.sweep.items()},
        "cases": [dict(case) for case in study.cases],
        "free": {
            f"{name}.{key}": value for name, keys in sections.items() for key, value in keys.items()
        },
    }


def differences(was: Definition, now: Definition) -> list[str]:
    """One line for each key that differs, as `training.epochs: 40 is now 80`."""
    lines = []
    for part in ("base", "sweep", "free"):
        old, new = was.get(part, {}), now[part]
        for key in dict.fromkeys([*old, *new]):
            before, after = old.get(key, MISSING), new.get(key, MISSING)
            known = (
                key in old or part == "sweep"
            )  # a key that an older version did not have has not changed
            if before != after and known and not (part == "base" and key in now["sweep"]):
                lines.append(
                    f"{'sweep of ' if part == 'sweep' else ''}{key}: {_said(before)} is now {_said(after)}"
                )
    if was.get("cases", []) != now["cases"]:
        lines.append(
            f"sweep.cases: {len(was.get('cases', []))} cases are now {len(now['cases'])}, or others"
        )
    return lines


def reshapes(was: Definition, now: Definition) -> bool:
    """Whether trials that are there have to be read anew: another space, another base or objective."""
    key = "search.objective"
    same = all(was.get(part) == now[part] for part in ("base", "sweep", "cases"))
    return not same or was.get("free", {}).get(key) != now["free"].get(key)


def conflicts(trial: dict[str, Any], was: Definition, now: Definition) -> tuple[list[str], bool]:
    """How a trial of the old definition stands in the new one: (keys that make it another experiment, outside).

    trial: all its values, dotted. outside: it has a value that its sweep does not list any more.
    """
    wrong, outside = [], False
    for key, value in now["base"].items():
        if key in now["sweep"] or key == EXECUTED or key not in trial or trial[key] == value:
            continue
        if key in was.get("sweep", {}):
            outside = True
        elif key != "replicas.count" or trial[key] > value:
            wrong.append(key)
    return wrong, outside


def _said(value: Any) -> str:
    if value is MISSING:
        return "nothing"
    return "null" if value is None else str(value)
