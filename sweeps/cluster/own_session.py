"""Ray's processes in sessions of their own, out of reach of signals to the whole process group.

`timeout`, batch systems and closed terminals signal every process of a group. Ray's would end before the
driver has saved what runs; they end with it anyway, by the kernel's word. Ray has no setting for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray._private import services


@contextmanager
def processes() -> Iterator[None]:
    """Whatever of Ray's is started meanwhile leads a session of its own."""
    before = services.ConsolePopen

    class Popen(before):  # type: ignore[valid-type, misc]
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **{**options, "start_new_session": True})

    services.ConsolePopen = Popen  # type: ignore[misc]
    try:
        yield
    finally:
        services.ConsolePopen = before  # type: ignore[misc]
