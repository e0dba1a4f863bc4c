"""Which nodes and devices trials fail on that succeed elsewhere: those are set aside for the study.

Arithmetic on what is told; knows neither Ray nor what a trial is.
"""

from __future__ import annotations

from collections import defaultdict

from engram.sweeps.cluster.faults import Spot

IN_A_ROW = 3  # failures on a spot, without a success there, before it is judged
ENOUGH = 2  # trials that a device failed and that succeeded elsewhere
HOPELESS = 12  # faults of devices in a row, wherever, without anything getting further


class Health:
    """What each spot has done to the trials that ran on it.

    aside: the spots that are set aside, with the last error there. hopeless: the error that every attempt has
    ended in lately, wherever it was made; None while anything works.
    """

    def __init__(self) -> None:
        self.aside: dict[Spot, str] = {}
        self.hopeless: str | None = None
        # Failures since the last success: (trial, error, whether it was the device's).
        self._rows: dict[Spot, list[tuple[int, str, bool]]] = defaultdict(list)
        self._failed_on: dict[int, set[str]] = defaultdict(set)  # nodes, of trials in question
        self._completed: dict[int, Spot] = {}
        self._working: set[Spot] = set()  # where some trial got somewhere
        self._faults = 0  # in a row

    def failed(self, trial: int, spot: Spot, error: str, device: bool) -> list[Spot]:
        """An attempt failed there; device: by an error of the device. Returns what is set aside for it."""
        self._rows[spot].append((trial, error, device))
        self._failed_on[trial].add(spot.node)
        self._faults += device
        if self._faults >= HOPELESS:
            self.hopeless = error
        return self._judged()

    def got_further(self, spot: Spot) -> list[Spot]:
        """A trial trains there."""
        self._faults = 0
        if spot in self._working:
            return []
        self._working.add(spot)
        return self._judged()

    def completed(self, trial: int, spot: Spot) -> list[Spot]:
        """A trial was trained to its end there: whatever failed there before, it works."""
        self._rows.pop(spot, None)
        self._completed[trial] = spot
        self._failed_on.pop(trial, None)
        return self.got_further(spot) + self._judged()

    def failed_on(self, trial: int) -> set[str]:
        """Nodes that a trial failed on, and should not be sent to while there are others."""
        return self._failed_on.get(trial, set())

    @property
    def nodes_aside(self) -> set[str]:
        """Nodes that are set aside as a whole: without GPUs, or with more than one bad GPU."""
        whole = {spot.node for spot in self.aside if not spot.gpus}
        gpus: dict[str, int] = defaultdict(int)
        for spot in self.aside:
            gpus[spot.node] += bool(spot.gpus)
        return whole | {node for node, count in gpus.items() if count > 1}

    def _judged(self) -> list[Spot]:
        """The spots that have become suspicious enough, and are set aside now."""
        found = []
        for spot, row in self._rows.items():
            trials = {trial for trial, _, _ in row}
            faults = sum(device for _, _, device in row)
            elsewhere = sum(trial in self._completed for trial in trials)
            others_work = bool(self._working - {spot} - self.aside.keys())
            sick = faults >= IN_A_ROW and others_work
            # Errors of programs count against a spot once the same trials have succeeded elsewhere.
            strange = len(trials) >= IN_A_ROW and elsewhere >= IN_A_ROW - 1
            # Few may have been sent there: of errors of the device, two that were none elsewhere are enough.
            proven = faults >= ENOUGH and elsewhere >= ENOUGH
            if spot not in self.aside and (sick or strange or proven):
                self.aside[spot] = row[-1][1]
                found.append(spot)
        return found
