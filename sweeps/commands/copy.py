"""`copy`: an execution from one MLflow store into another, from the embedded one to a server most often."""

from __future__ import annotations

import argparse

from engram import program
from engram.problems import Place, Problem, StudyError
from engram.sweeps.commands import options

SUMMARY = "copy a run into another MLflow store, such as a server"
MORE = "Curves, tables, files and the best model; what is there already is left alone."
EXAMPLE = "copy quickstart --to http://127.0.0.1:5000"
LONGEST_REASON = 200


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the run")
    text = "MLflow tracking URI to copy to"
    parser.add_argument("--to", metavar="URI", required=True, help=text)
    options.add_tracking(parser)


def body(arguments: argparse.Namespace) -> int:
    """Copy the execution of this name.

    StudyError where it is not there, where the other store has one of this name that is no copy, or
    where a store cannot be reached. Begun again after an interruption, it copies what is missing.
    """
    from engram.sweeps.state import paths
    from engram.sweeps.tracking import store, transfer

    name, to, uri = arguments.name, arguments.to, arguments.tracking_uri
    place = Place("copy")
    if not to.startswith(("http://", "https://")):  # files would land beside whoever types this
        fix = "give a server's address, as in http://127.0.0.1:5000"
        shown = store.without_password(to)
        raise StudyError([Problem(place, "is no MLflow server", fix, "--to", shown)])
    source = uri or paths.mlflow_uri()
    try:
        found = store.find_study(source, name)
        if found is None:
            shown = store.without_password(source)
            raise StudyError([Problem(place, f"is no execution in {shown}", "", "name", name)])
        runs = len(transfer.copy(*found, name, to))
    except transfer.Taken as error:
        fix = "copy it to another server, or delete the run there"
        raise StudyError(
            [Problem(place, str(error), fix, "--to", store.without_password(to))]
        ) from None
    except StudyError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:LONGEST_REASON]
        fix = "check the addresses, and MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; then again"
        raise StudyError([Problem(place, f"was interrupted: {reason}", fix)]) from None
    program.say(f"{name}: {runs} runs copied to {store.without_password(to)}")
    program.say("to go on recording there, write into the study file:")
    program.say(f"  tracking: {{uri: {store.without_password(to)}}}")
    return program.DONE
