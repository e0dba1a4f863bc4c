"""The address of a cluster as `run` takes it: refused before anything is begun where it cannot be one, or is dead.

Knows nothing of Ray, which takes seconds to import and minutes to give a dead address up.
"""

from __future__ import annotations

import os
import socket

from engram import program
from engram.problems import Place, Problem, StudyError

IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # set by Ray in the driver of a job
OWN = ("auto", "local")  # Ray's words for a node on this machine, and for a Ray of our own
ANSWER_S = 20.0
# How HTTP/2 begins, as a head speaks it: a preface and empty settings, which the other side answers with its own.
PREFACE, SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", b"\4"


class Unreachable(RuntimeError):
    """Nobody answers there now."""


def settled(address: str | None) -> str | None:
    """Where to run: what was asked for, or in a job the cluster that it is a job of; None: on this machine.

    StudyError where the address is none of a node, Unreachable where nobody answers there. RAY_ADDRESS is not read anywhere
    else: a study never joins a cluster that nobody named.
    """
    found = address or (os.environ.get("RAY_ADDRESS") if IN_A_JOB in os.environ else None)
    if found is None:
        if os.environ.get("RAY_ADDRESS"):
            there = os.environ["RAY_ADDRESS"]
            program.warn(f"runs on this machine: RAY_ADDRESS is not read, --address {there} is")
        return None
    if found in OWN:
        return found
    place = Place("run")
    if "://" in found:
        rule = "is not the address of a node: a study's driver runs on one, beside its ledger"
        fix = f"on a node, give HOST:PORT of the head; from elsewhere: {program.name()} submit"
        raise StudyError([Problem(place, rule, fix, "--address", found)])
    host, colon, port = found.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        fix = "give HOST:PORT of the head, as in 10.0.0.1:6379"
        raise StudyError([Problem(place, "is no address of a node", fix, "--address", found)])
    try:
        _greet(host.strip("[]"), int(port))
    except OSError as error:
        why = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        fix = "check the address, and `ray status` on the head; without --address it runs on this machine"
        rule = f"is no cluster that runs: {why}"
        raise Unreachable(str(Problem(place, rule, fix, "--address", found))) from None
    return found


def _greet(host: str, port: int) -> None:
    """OSError where nobody answers as a head does: Ray itself would wait ten minutes for one that accepts and is silent."""
    with socket.create_connection((host, port), timeout=ANSWER_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0") not in ("0", "false"):
            return
        connection.sendall(PREFACE)
        answer = b""
        while len(answer) < 4 and (more := connection.recv(9)):
            answer += more
        if answer[3:4] != SETTINGS:
            raise OSError("something else answers there")
