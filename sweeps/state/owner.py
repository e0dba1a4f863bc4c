"""Whose an execution is, and where it runs: recorded with it, so that forty people can tell. Light."""

from __future__ import annotations

import os
import platform

VARIABLE = "ENGRAM_OWNER"  # set where the account is not the person: a service, or a cluster's user


def owner() -> str:
    """The person that the work of this process is for."""
    named = os.environ.get(VARIABLE, "").strip()
    if named:
        return named[:100]
    import getpass  # with terminals: not for --help

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as containers have
        return f"user {os.getuid()}"


def host() -> str:
    """This machine's name."""
    return platform.node() or "unknown"
