"""What is left of old nights: the summary for good, the rest for as long as `nightly.keep` says."""

from __future__ import annotations

import logging
import shutil

from engram.sweeps.nightly import entries
from engram.sweeps.nightly.entries import MISSED, UNFINISHED, Entry
from engram.sweeps.state import paths
from engram.sweeps.study.configuration import Study
from engram.sweeps.tracking import nightly

log = logging.getLogger(__name__)


def prune(study: Study, place: nightly.Place, known: list[Entry]) -> list[Entry]:
    """Remove ledger, checkpoints and log of the nights beyond those kept, and their trials in MLflow.

    Entry, summary and the night's run in MLflow stay. A night that waits to be recorded waits here too,
    and those that the next night is compared with are never touched. Returns the pruned.
    """
    kept = max(study.nightly.keep, study.nightly.baseline)
    ran = [e for e in known if e.state != MISSED]
    old = [e for e in ran[:-kept] if not e.pruned and e.recorded and e.state not in UNFINISHED]
    for entry in old:
        taken = nightly.prune(place, entry.night)
        shutil.rmtree(paths.study_dir(entry.night), ignore_errors=True)
        entries.log_path(entry.night).unlink(missing_ok=True)
        entry.pruned = True
        entry.write()
        log.info(
            "%s is pruned: %d trials taken out of MLflow, its summary stays", entry.night, taken
        )
    return old
