"""Ray on this machine alone, with all of its ports bound to loopback: Ray has no public setting for that.

Its own word is the one for systems where it runs on one machine only.
"""

from __future__ import annotations

import os

from ray._private import ray_constants

SETTING = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def bind() -> None:
    """For what is started from now on by this process."""
    os.environ[SETTING] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False  # this process has read the setting already
