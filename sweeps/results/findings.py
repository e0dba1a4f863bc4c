"""What a study's records say, in sentences: the answer, what moved what, and why to doubt it.

Numbers come from the leaderboard alone, so that they are the same in every place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from engram.sweeps.results import across, columns, tables, words
from engram.sweeps.results import answer as told
from engram.sweeps.results.boards import Row
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.record import Record
from engram.sweeps.results.tables import cell, title_of
from engram.sweeps.study.configuration import label

MOST_EFFECTS = 6
FEW_REPLICAS = 5
DOZENS = 24
LARGE_SHARE = 0.1  # of the pool in one subset, above which the variance is the one given the pool
SHOWN_NAMES = 6


def leader(evidence: Evidence) -> Row | None:
    """The first row of the selecting board, where any trial completed."""
    board = evidence.board
    if board is None or not board.rows or board.rows[0].tie_group is None:
        return None
    return board.rows[0]


def answer(evidence: Evidence) -> str:
    """The answer to what is asked, then the best configuration, in a few sentences."""
    return " ".join([*answers(evidence), best(evidence)])


def answers(evidence: Evidence) -> list[str]:
    """One sentence for each thing that the study asks; empty where no trial completed."""
    return told.sentences(evidence)


def answer_note(evidence: Evidence) -> str:
    """What the intervals in it are."""
    return told.note(evidence) if answers(evidence) else ""


def best(evidence: Evidence) -> str:
    """The best configuration, in one sentence."""
    first = leader(evidence)
    if first is None:
        count = len(evidence.records)
        return f"No answer: none of {count} trial{'s' if count != 1 else ''} completed."
    board, record = evidence.board, first.record
    assert board is not None
    tied = [row for row in board.rows if row.tie_group == 1]
    head = f"Best is {label(record['params'])}, with a {title_of(board.by)} of {cell(record, board.by)}"
    on_test = columns.beside(board.by, evidence.records)
    beside = (
        [] if on_test in (board.by, "test_error") else [f"{cell(record, on_test)} on the test set"]
    )
    beside += [] if board.by == "test_error" else [f"test error {cell(record, 'test_error')}"]
    # How good it is, is a question about examples that are not there yet; which is better, one about these trials.
    wide = tables.new_data(record, "test_error")
    beside += [f"{wide} on another pool and test set"] if wide else []
    head += f" ({', '.join(beside)})" if beside else ""
    head += f" and a generalization gap of {cell(record, 'generalization_gap')}"
    if len(tied) == 1:
        compared = sum(row.tie_group is not None for row in board.rows)
        ahead = f", clearly ahead of the other {compared - 1} when retrained on this pool"
        return f"{head}{ahead}." if compared > 1 else f"{head}."
    names = [label(row.record["params"]) for row in tied[1:3]]
    more = [f"{len(tied) - 3} more"] if len(tied) > 3 else []
    return f"{head}; {words.listed([*names, *more])} cannot be told apart from it."


def effects(evidence: Evidence) -> list[str]:
    """What the trials say together: laws, crossings, and what single changes of a setting do."""
    return together(evidence.completed, MOST_EFFECTS)


def together(records: Sequence[Record], most: int) -> list[str]:
    """The same of records alone."""
    return across.findings(records, most)


# -- why to doubt it --------------------------------------------------------------------------------


def limits(evidence: Evidence) -> list[str]:
    """What a reader must know before believing the numbers, the gravest first."""
    found = [
        *_trials_lost(evidence),
        *unfinished(evidence),
        *_selection(evidence),
        *_replicas(evidence),
        *_overlap(evidence),
        *_training(evidence),
        *_intervals(evidence),
        *uncommitted(evidence),
    ]
    noted = Counter(w for r in evidence.records for w in r.get("warnings") or [])
    found += [f"{text} ({count} trial{'s' if count > 1 else ''})" for text, count in noted.items()]
    return found


def _trials_lost(evidence: Evidence) -> list[str]:
    said = {
        "failed": "failed and have no result",
        "diverged": "diverged: some replicas ended in numbers that are not finite; ranked last",
        "pruned": "were stopped early by the scheduler, on less training than those ranked first",
    }
    found = []
    for status, text in said.items():
        lost = [r for r in evidence.records if r["status"] == status]
        if lost:
            names = "; ".join(label(r["params"]) for r in lost[:SHOWN_NAMES])
            more = f"; and {len(lost) - SHOWN_NAMES} more" if len(lost) > SHOWN_NAMES else ""
            found.append(f"{len(lost)} of {len(evidence.records)} trials {text} ({names}{more}).")
    return found


def unfinished(evidence: Evidence) -> list[str]:
    planned = evidence.study.planned_trials() if evidence.study else None
    if planned and len(evidence.records) < planned:
        return [f"Not finished: {len(evidence.records)} of {planned} trials are in."]
    return []


def _selection(evidence: Evidence) -> list[str]:
    if evidence.board is None:
        return []
    notes = [n for n in tables.footnotes(evidence.board, None) if not n.startswith("=")]
    return [f"{note[0].upper()}{note[1:]}." for note in notes]


def _replicas(evidence: Evidence) -> list[str]:
    count = max((r.get("replicas") or 0 for r in evidence.records), default=0)
    found = []
    if 0 < count < FEW_REPLICAS:
        found.append(
            f"Only {count} replica{'s' if count > 1 else ''} per trial: "
            + (
                "intervals are wide; five or more are wanted."
                if count > 1
                else "no interval is known."
            )
        )
    if 0 < count < DOZENS and any(r["measures"].get("memorization") for r in evidence.records):
        found.append(
            f"Memorization of single examples wants dozens of replicas; with {count}, read the means."
        )
    return found


def _overlap(evidence: Evidence) -> list[str]:
    shares = {
        r["train_examples"]: r["train_examples"] / r["pool_examples"]
        for r in evidence.completed
        if r.get("pool_examples")
    }
    draw = evidence.study.replicas.draw if evidence.study else "subset"
    large = {m: share for m, share in shares.items() if share > LARGE_SHARE}
    if not large or draw in ("disjoint", "fresh"):
        return []
    listed = ", ".join(
        f"m/n = {share:.2f} at m = {m}" for m, share in sorted(large.items())[:SHOWN_NAMES]
    )
    return [
        f"The replicas' subsets overlap ({listed}): the variance is the one given this pool, and what the "
        "subsets share sits in the bias²."
    ]


def _intervals(evidence: Evidence) -> list[str]:
    """What the intervals speak of."""
    known = [r for r in evidence.completed if r["measures"].get("test_error")]
    if not known:
        return []
    wide = [
        (ends["high"] - ends["low"]) / 2
        for r in known
        if (ends := (r.get("new_data") or {}).get("test_error"))
    ]
    said = "Intervals and differences are for retraining: other subsets and seeds of this pool, on this test set."
    if wide:
        return [
            f"{said} For another pool and test set the test error is known to ±{float(np.median(wide)):.3f} (median of "
            "the trials)."
        ]
    errors = [r["test_sampling_se"]["squared_risk"] for r in known if r.get("test_sampling_se")]
    if errors:
        said += (
            f" Another test set would move the risk by about ±{2 * float(np.median(errors)):.3f}, much alike for all "
            "trials; what another pool would do, this design does not tell."
        )
    return [said]


def _training(evidence: Evidence) -> list[str]:
    found = []
    study = evidence.study
    if study is not None and "data.train_size" in evidence.axes:
        same = "epochs" if study.training.steps is None else "steps"
        other = "steps" if same == "epochs" else "epochs"
        found.append(
            f"All dataset sizes train for the same number of {same}, so the {other} differ."
        )
    slow = [r for r in evidence.completed if 2 * r.get("censored_replicas", 0) >= r["replicas"]]
    if slow:
        found.append(
            f"In {len(slow)} of {len(evidence.completed)} trials the training loss had not settled in half of the "
            "replicas or more: longer training may change them."
        )
    noise = study.data.label_noise if study else 0
    if noise:
        found.append(
            f"Label noise ({noise:g}) sits inside bias² of everything trained or validated on it."
        )
    return found


def uncommitted(evidence: Evidence) -> list[str]:
    if evidence.provenance.get("git.dirty"):
        return [
            "The code had changes that were not committed: the commit alone does not reproduce it."
        ]
    return []
