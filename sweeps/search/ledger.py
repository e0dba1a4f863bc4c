"""The file behind a study's search: its durable ledger, refused where it cannot be trusted.

A journal of checksummed lines in the form that Optuna's journal storage replays. Knows neither
Optuna nor what the lines mean, but for which of them may wait for the disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engram import files
from engram.problems import Place, Problem, StudyError
from engram.sweeps.search import operations
from engram.sweeps.state import journal

FORMAT = 2  # of what stands in a ledger; raised when an older program could misread it
# Lines that wait for the disk with the next one that does not (an attempt, a record). What a power cut takes
# is asked again.
MAY_WAIT = {
    operations.CREATE_TRIAL,
    operations.TRIAL_PARAMETER,
    operations.TRIAL_STATE,
    operations.TRIAL_REPORT,
}


class LedgerError(StudyError):
    """A ledger that this version cannot go on from; the message says what to do."""


def refused(path: Path, rule: str, fix: str) -> LedgerError:
    return LedgerError([Problem(Place(str(path)), rule, fix)])


def check_format(path: Path, version: int) -> None:
    """LedgerError where another version of the program wrote a ledger."""
    if version != FORMAT:
        raise refused(
            path,
            f"ledger format {version}, and this version reads {FORMAT}",
            "use the version that wrote it, or run under another name (--name N)",
        )


class LedgerFile:
    """A journal as Optuna's storage wants it: `read_logs` and `append_logs`.

    write: this process owns the ledger (it holds the study's lock). A torn last line is then cut
    off; damage before it raises LedgerError.
    """

    def __init__(self, path: Path, write: bool):
        self.path = path
        self._offsets = [0]  # where each line begins
        self._journal: journal.Journal | None = None
        if write and not path.exists() and backup_of(path).exists():
            copy = backup_of(path)
            raise refused(
                path,
                f"the ledger is gone, and {copy.name}, its copy from the start of the last run, lies beside it",
                f"put it back (cp {copy} {path}) to keep what was finished by then, or move {copy.name} away"
                " too to train everything anew",
            )
        if write:
            try:
                self._journal = journal.Journal(path, whole=True)
            except journal.Damaged as error:
                raise damaged(path, str(error)) from error

    @property
    def torn(self) -> int:
        """Bytes of a torn last line that were cut off."""
        return self._journal.torn if self._journal else 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Lines from a number on; each is asked for in order."""
        start = self._offsets[min(log_number_from, len(self._offsets) - 1)]
        for number, (content, end) in enumerate(journal.read(self.path, start), log_number_from):
            if content is None:
                raise damaged(self.path, f"line {number + 1} is damaged")
            if number + 1 == len(self._offsets):
                self._offsets.append(end)
            yield content

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._journal is None:
            raise PermissionError(f"{self.path} is open for reading")
        durable = any(log["op_code"] not in MAY_WAIT for log in logs)
        self._journal.append(logs, durable)

    def back_up(self) -> None:
        """Keep a copy of a ledger that was just read without a fault."""
        with open(self.path, "rb") as ledger:
            files.write(backup_of(self.path), lambda copy: shutil.copyfileobj(ledger, copy))

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()


def backup_of(path: Path) -> Path:
    """The copy of a ledger from the start of the last run."""
    return path.with_name(path.name + ".backup")


def damaged(path: Path, how: str) -> LedgerError:
    copy = backup_of(path)
    rescue = (
        f"put the copy of the last start in its place (cp {copy} {path})"
        if copy.exists()
        else "restore it from a backup"
    )
    return refused(
        path,
        f"the ledger cannot be trusted: {how}",
        f"{rescue}, or move both away to start the study afresh"
        if copy.exists()
        else f"{rescue}, or move it away to start the study afresh",
    )
