"""Records a study: one experiment per study, a parent run per execution, a child run per trial.

Training never waits for MLflow and never stops because of it: messages go to an outbox on disk, and one
writer thread sends them (sender.py), batched and in order, until they have arrived.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engram.sweeps.tracking.embedded import Unusable, advice
from engram.sweeps.tracking.outbox import Message, Outbox
from engram.sweeps.tracking.refusals import Refusals, forbidden, hopeless, reason_of
from engram.sweeps.tracking.sender import STUDY, Sender, now_ms
from engram.sweeps.tracking.store import NEVER, without_password

log = logging.getLogger(__name__)

GATHER_S = 0.3  # messages that arrive within this time travel together
LONGEST_PAUSE_S, PAUSE_AT_END_S = 15.0, 2.0
MOST_MESSAGES = 2000  # sent at once
LARGEST_METRIC = 1.7e308


class Recorder:
    """Accepts what happens in a study and sends it to MLflow from a thread of its own.

    uri: MLflow tracking URI; folder: where the outbox lives; name: of the execution (tag
    `engram.name`); on_run(trial, run_id): called once for each child run. Where an earlier process may
    have left runs behind (resumed): trials() says {trial: (hash, whether it is committed)}, and
    again(trials) is called with those committed ones whose runs do not say so, or say too little.
    register: the name that the model registry will be asked for. The callbacks are called from the
    writer's thread.
    """

    def __init__(
        self,
        uri: str,
        folder: Path,
        experiment: str,
        name: str,
        artifacts: str | None,
        on_run: Callable[[int, str], None],
        resumed: bool = False,
        trials: Callable[[], dict[int, tuple[str, bool]]] = dict,
        again: Callable[[list[int]], None] = lambda numbers: None,
        register: str | None = None,
    ):
        self.uri, self.name = uri, name
        self.outbox = Outbox(folder)
        self.problem: str | None = None  # why nothing could be sent last time, for people
        self.refused: str | None = None  # why nothing can ever be sent to this store
        self.refusals = Refusals(folder)  # what it will never take, though it takes the rest
        self.reached = False  # whether anything arrived
        self.results = 0  # ends of trials that did
        self.settled = threading.Event()  # what an earlier process left is in order, or unreachable
        self._answered = threading.Event()  # what was sent first arrived, or did not
        self._register = register
        self._hashes: dict[int, str] = {}
        self._stamp = 0
        self._at_start = True
        self._closing = threading.Event()
        self._give_up = 0.0
        self._sender = Sender(
            uri, experiment, artifacts, name, resumed, on_run, trials, again, self.refusals
        )
        self._thread = threading.Thread(target=self._work, name="engram-tracking", daemon=True)
        self._thread.start()

    # -- what happens in a study ------------------------------------------------------------------

    def study(self, tags: dict[str, str], params: dict[str, Any]) -> None:
        """The execution starts or goes on."""
        self._put(
            "start", STUDY, name=self.name, tags={"engram.kind": "study", **tags}, params=params
        )

    def trial(self, number: int, name: str, tags: dict[str, str], params: dict[str, Any]) -> None:
        """A trial starts or goes on."""
        tags = {"engram.kind": "trial", "engram.trial": str(number), **tags}
        self.belongs(number, tags.get("engram.config_hash", ""))
        self._put("start", number, name=name, tags=tags, params=params)

    def belongs(self, number: int, config_hash: str) -> None:
        """From now on, messages about this trial are about this configuration."""
        self._hashes[number] = config_hash

    def metrics(self, number: int, step: int, metrics: dict[str, float]) -> None:
        """Numbers at a step. NaN and infinities are left out: MLflow's page breaks on them."""
        finite = {
            k: float(v) for k, v in metrics.items() if v is not None and abs(v) < LARGEST_METRIC
        }
        if finite:
            self._put("metrics", number, step=step, metrics=finite)

    def tags(self, number: int, tags: dict[str, str]) -> None:
        self._put("tags", number, tags=tags)

    def artifact(self, number: int, path: Path, to: str = "", keep: bool = True) -> None:
        """Send a file, under the folder `to`; without `keep` it is removed once it has arrived."""
        self._put("artifact", number, path=str(path), to=to, keep=keep)

    def table(self, number: int, path: Path) -> None:
        """Send a JSON table ({"columns", "data"}) that MLflow shows as one."""
        self._put("table", number, path=str(path))

    def describe(self, tags: dict[str, str]) -> None:
        """Tags of the experiment: its description, its prepared view."""
        self._put("experiment", STUDY, tags=tags)

    def inputs(self, number: int, datasets: list[dict[str, str]]) -> None:
        """The datasets of a run; see pages.dataset."""
        self._put("inputs", number, datasets=datasets)

    def model(self, path: Path, name: str, tag: str, **about: Any) -> None:
        """A saved model of the study, known by its tag; see model.send."""
        self._put("model", STUDY, path=str(path), name=name, tag=tag, **about)

    def end(self, number: int, status: str = "FINISHED") -> None:
        """The run has ended: FINISHED, FAILED or KILLED."""
        self._put("end", number, durable=True, status=status)

    def _put(self, kind: str, number: int, durable: bool = False, **content: Any) -> None:
        # A clock that is set back must not put what comes later before what was earlier.
        self._stamp = max(self._stamp, now_ms())
        message = {
            "kind": kind,
            "trial": number,
            "hash": self._hashes.get(number, ""),
            "time": self._stamp,
            **content,
        }
        self.outbox.put(message, durable)

    def rejected(self, timeout_s: float) -> str | None:
        """Why the store will not take this execution, in words; None where it does, or is away for now.

        Waits for the answer to what was sent first, the execution's own run: nothing is trained for a store
        that lets nobody in.
        """
        self._answered.wait(timeout_s)
        return self.refused

    def close(self, timeout_s: float) -> bool:
        """Send what is left; False if something has to wait because nothing arrived for timeout_s."""
        self._give_up = time.monotonic() + timeout_s
        self._closing.set()
        self.outbox.arrived.set()
        before = self.outbox.acknowledged
        while self._thread.is_alive() and time.monotonic() < self._give_up:
            self._thread.join(0.2)
            if self.outbox.acknowledged != before:
                before, self._give_up = self.outbox.acknowledged, time.monotonic() + timeout_s
        if not self._thread.is_alive():
            self.refusals.close()
        if self.outbox.empty:
            self.outbox.clear()
            return not (self._sender.in_doubt and self.problem)
        return False

    def view_url(self) -> str | None:
        """Where a server shows the experiment's prepared view; None for a store without a server."""
        from engram.sweeps.tracking import pages

        if not self.uri.startswith("http") or self._sender.experiment_id is None:
            return None
        address = without_password(self.uri).rstrip("/")
        return address + pages.view_path(self._sender.experiment_id)

    @property
    def study_run_id(self) -> str | None:
        return self._sender.study_run_id

    # -- the writer's thread --------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._serve()
        finally:
            log.info("MLflow took %.2f s of CPU", time.thread_time())

    def _serve(self) -> None:
        pause, limit = 1.0, MOST_MESSAGES
        while True:
            if not self._closing.is_set():
                self.outbox.arrived.wait(timeout=1.0)
            try:
                if self.outbox.empty:
                    closing = self._closing.is_set()
                    if self._sender.in_doubt and (closing or (self._at_start and self.reached)):
                        self._sender.settle(closing)
                        self._at_start = False
                    if closing and self.outbox.empty:
                        return
                    if self.outbox.empty:
                        if not self._sender.in_doubt:
                            self.settled.set()
                        self.outbox.arrived.clear()
                    continue
                self._closing.wait(GATHER_S)
                self._send(list(self.outbox.pending(limit)))
                self.problem, pause, limit = None, 1.0, min(limit * 2, MOST_MESSAGES)
            except Exception as error:  # whatever the network does, training goes on
                self._tell(error, pause)
                self._sender.forget()
                if self.refused:
                    return
                limit = max(
                    1, limit // 4
                )  # of a server that often fails, little can be asked at once
                if self._closing.wait(pause):
                    if time.monotonic() > self._give_up:
                        return  # the study is over and the server is away: the outbox keeps it
                    time.sleep(min(pause, PAUSE_AT_END_S))
                pause = min(pause * 2, LONGEST_PAUSE_S)

    def _send(self, messages: list[tuple[Message, int]]) -> None:
        """Send what waits, and acknowledge it."""
        if not messages:  # damaged lines only
            self.outbox.skip()
            return
        if self._register is not None:  # a name that is refused is found now, not when it is needed
            self._sender.reserve(self._register)
            self._register = None
        self._sender.send([message for message, _ in messages])
        self.outbox.acknowledge(messages[-1][1])
        self.reached = True
        self._answered.set()
        for message, _ in messages:
            self.results += message["kind"] == "end" and message["trial"] != STUDY
            passing = message["kind"] == "artifact" and not message["keep"]
            if passing and not self.refusals.holds(message):
                Path(message["path"]).unlink(missing_ok=True)

    def _tell(self, error: Exception, pause: float) -> None:
        """Write down what went wrong, and whether it will be otherwise another time."""
        where, reason = without_password(self.uri), reason_of(error)
        self.problem = f"{type(error).__name__}: {reason}"[:300]
        log.warning("MLflow at %s: %s; trying again in %.0f s", where, self.problem, pause)
        if isinstance(error, Unusable):
            self.refused = f"{where} cannot be used: {error}"
        elif any(words in str(error).lower() for words in NEVER):
            self.refused = f"{where} cannot be used: {advice(str(error))}"
        elif type(error).__name__.startswith("Unsupported"):  # MLflow's own word for a scheme
            self.refused = f"{where} cannot be used: MLflow knows no such store"
        elif self._register is not None and hopeless(error):
            self.refused = (
                f"{where} does not take tracking.register_as = {self._register!r} ({reason})\n"
                "    choose another name, or leave it out"
            )
        elif not self.reached and forbidden(error):
            fix = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN)"
            self.refused = (
                f"{where} does not let this be recorded ({reason})\n    {fix} of somebody who may"
                " write there, or record elsewhere with --set tracking.uri=..."
            )
        self._answered.set()
        self.settled.set()
