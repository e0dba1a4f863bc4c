"""`schedule`: the timetable of studies, kept by a small service or by a tick of cron, systemd or Kubernetes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engram import program
from engram.sweeps.commands import options

if TYPE_CHECKING:
    from engram.sweeps.nightly.entries import Entry
    from engram.sweeps.nightly.training import Train
    from engram.sweeps.study.configuration import Study
    from engram.sweeps.study.request import Request

SUMMARY = "keep the timetable of studies' nightly sections, or install it"
MORE = "Runs in the foreground until Ctrl-C, and runs each night when it is due."
EXAMPLE = "schedule nightly --print systemd"


def arguments(parser: argparse.ArgumentParser) -> None:
    options.add_study(parser, many=True, named=False)
    options.add_address(parser)
    text = (
        "state folder, ENGRAM_HOME without it; repeated: nights of all of them, one after the other"
    )
    parser.add_argument("--home", metavar="DIR", action="append", type=_folder, help=text)
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--once", action="store_true", help="run what is due now, and exit")
    ways.add_argument(
        "--print",
        choices=["cron", "systemd", "kubernetes"],
        help="write the entry that starts --once every ten minutes: cron, systemd or kubernetes",
    )
    text = "show next and last nights and how they ended"
    ways.add_argument("--list", action="store_true", help=text)
    text = "for monitoring: exit code 1 if a study has had no night that was done in the last H hours, as in 26"
    ways.add_argument("--check", metavar="H", type=options.positive, help=text)
    options.add_format(parser, ("table", "json", "prometheus"), of="of --list: ")


def body(arguments: argparse.Namespace) -> int:
    from engram.sweeps.nightly import service, studies, training
    from engram.sweeps.state import paths

    folders = arguments.home or [paths.home()]
    requests = options.requests(arguments)
    found = studies.load(requests)
    if arguments.list:
        return _show(found, folders, arguments.format)
    if arguments.check is not None:
        return _check(found, folders, arguments.check)
    if arguments.print:
        with paths.at(folders[0]):
            print(_entry(arguments.print)(found, requests, folders, arguments.address))
        return program.DONE
    train = training.on(arguments.address)
    if arguments.once:
        return _once(found, folders, train)
    return service.serve(found, folders, program.say, train=train)


def _folder(text: str) -> Path:
    return Path(text).expanduser().resolve()


def _entry(
    kind: str,
) -> Callable[[Sequence[Study], Sequence[Request], list[Path], str | None], str]:
    """What writes the entry for a scheduler."""
    from engram.sweeps.nightly import kubernetes, schedulers

    if kind == "kubernetes":
        return kubernetes.kubernetes
    return schedulers.cron if kind == "cron" else schedulers.systemd


def _once(studies: Sequence[Study], folders: Sequence[Path], train: Train) -> int:
    """Run what is due now, if anything; return at once where another night is running."""
    from engram.sweeps.nightly.folders import tick
    from engram.sweeps.nightly.session import Session
    from engram.sweeps.state import lock

    try:
        code, _ran = tick(
            folders, lambda: Session(studies, asked=False, train=train, say=program.say)
        )
    except lock.Busy:
        return program.DONE  # whoever holds it, or the next tick, sees to what is due
    return code


def _check(studies: Sequence[Study], folders: Sequence[Path], hours: float) -> int:
    """Say which studies have had no night for too long."""
    from engram.sweeps.nightly import monitoring
    from engram.sweeps.nightly.session import utc_now

    late = monitoring.overdue([study.name for study in studies], folders, hours, utc_now())
    print(
        "\n".join(late)
        or f"each of {len(studies) * len(folders)} has had a night in the last {hours:g} h"
    )
    return program.FAILED if late else program.DONE


def _show(studies: Sequence[Study], folders: Sequence[Path], form: str) -> int:
    """Print when each study runs next, when it last did, and how that ended."""
    from engram.sweeps.state import paths

    if form == "prometheus":
        from engram.sweeps.nightly import monitoring
        from engram.sweeps.nightly.session import utc_now

        print(monitoring.metrics([s.name for s in studies], folders, utc_now()), end="")
        return program.DONE
    found = []
    for folder in folders:
        with paths.at(folder):
            found += [{**_state(study), "folder": str(folder)} for study in studies]
    if form == "json":
        print(json.dumps(found, indent=1))
        return program.DONE
    header = ["study", "timetable", "next", "in", "last", "ended"]
    header += ["folder"] if len(folders) > 1 else []
    table = [header, *([str(row[name]) for name in header] for row in found)]
    widths = [max(len(line[k]) for line in table) for k in range(len(header))]
    for line in table:
        print("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())
    return program.DONE


def _state(study: Study) -> dict[str, Any]:
    from engram.sweeps.nightly import entries, timetable
    from engram.sweeps.nightly.session import utc_now

    now = utc_now()
    known = entries.of_study(study.name)
    coming = timetable.upcoming(study, now)[0]
    last = known[-1] if known else None
    return {
        "study": study.name,
        "timetable": f"{study.nightly.cron} {study.nightly.timezone}",
        "next": f"{coming.at:%Y-%m-%d %H:%M %Z}",
        "in": _until((coming.at - now).total_seconds()),
        "last": last.night if last else "never",
        "ended": _ending(last) if last else "",
        "code": last.code if last else None,
    }


def _ending(last: Entry) -> str:
    verdict = last.judgement.get("verdict", "")
    return f"{last.state}: {verdict}" if verdict else last.state


def _until(seconds: float) -> str:
    minutes = int(seconds // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60:02d} min"
