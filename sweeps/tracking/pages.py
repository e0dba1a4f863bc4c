"""What makes MLflow's pages readable: the experiment's description, a prepared view, dataset inputs.

Builds values, and sends the two kinds that the outbox carries as they are; `tracking` decides when.
The prepared view is an undocumented tag of MLflow's own page: tests/test_mlflow_page.py guards it.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from engram.measures import catalog

VIEW = "engram"  # key of the prepared view, as in ?viewStateShareKey=engram
LONGEST_NOTE = 7900
LONGEST_QUESTION, LONGEST_TAG = 1500, 5000  # of an experiment, in characters
DIGEST_DIGITS = 32  # MLflow takes 36
SECTION = "engram"
LONGEST_NAME = 250
GROUPS = ("curve", "final", "interval")  # of metrics: MLflow makes a section of charts of each


def name_of(text: str) -> str:
    """A text as the name of a tag: what MLflow does not take in one, such as = and (, is left out."""
    return " ".join(re.sub(r"[^\w\-. :/]", " ", text).split())[:LONGEST_NAME]


def experiment_tags(
    name: str,
    question: str,
    measures: Sequence[str],
    axes: Sequence[str],
    numeric: Sequence[str],
    highest_first: bool = False,
    words: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Description, kind and prepared view of an experiment.

    measures: to show, first the one that selects; highest_first: whether its highest value is the best;
    axes: the swept keys; numeric: those of them that are numbers; words: what else on the page means what.
    """
    meant = [f"- `{m}`: {found.sentence}" for m in measures if (found := catalog.find(m))]
    meant += [
        f"- *{word}*: {html.escape(said, quote=False)}" for word, said in (words or {}).items()
    ]
    asked = html.escape(question or name, quote=False)
    description = "\n\n".join(
        [
            f"### {asked if len(asked) <= LONGEST_QUESTION else asked[:LONGEST_QUESTION] + '…'}",
            f"Each *parent run* is one execution of the study `{name}`: its page has the answer, the rankings "
            "and how to reproduce them; `report.html` among its artifacts has the pictures too. Each *child run* "
            "is one configuration, trained as several replicas; its metrics are means over them: `final/…` at the "
            "end, `interval/…_low` and `_high` the ends of their 95 % interval for retraining (other subsets and seeds, the "
            "same pool and test set), `…_new_data_low` and `_high` of the one for another pool and test set, `curve/…` by epoch.",
            "\n".join(meant),
            "Filter by `tags.engram.verdict = 'overfit'` or `tags.engram.status = 'diverged'`.",
        ]
    )
    return {
        "mlflow.note.content": description[:LONGEST_TAG],
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW}": _fitting(_view(measures, axes, numeric, highest_first)),
    }


def _fitting(view: dict[str, Any]) -> str:
    """The view as its tag, without the last charts where all would be too long for it."""
    while len(text := json.dumps(view, separators=(",", ":"))) > LONGEST_TAG:
        if not view["compareRunCharts"]:
            view["selectedColumns"] = view["columnOrder"] = view["columnOrder"][-20:]
            return json.dumps(view, separators=(",", ":"))
        view["compareRunCharts"].pop()
    return text


def _view(
    measures: Sequence[str], axes: Sequence[str], numeric: Sequence[str], highest_first: bool
) -> dict[str, Any]:
    """Trials alone, the best first, with the columns that matter and charts of the swept settings."""
    columns = ["tags.`engram.rank`", "tags.`engram.tie_group`"]
    columns += [f"params.`{axis}`" for axis in axes]
    columns += [f"metrics.`final/{name}`" for name in measures]
    columns += [f"metrics.`interval/{measures[0]}_{end}`" for end in ("low", "high")]
    columns += ["tags.`engram.status`", "tags.`engram.verdict`"]
    return {
        "searchFilter": "tags.`engram.kind` = 'trial'",
        "orderByKey": f"metrics.`final/{measures[0]}`",
        "orderByAsc": not highest_first,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": _charts(measures[0], axes, numeric),
        "compareRunSections": [
            _section("Study", SECTION, shown=True),
            *(_section(name, f"{SECTION}-{name}", shown=False) for name in GROUPS),
        ],
        "isAccordionReordered": True,  # or MLflow puts the sections in the order of their names
    }


def _section(name: str, uuid: str, shown: bool) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": name,
        "display": shown,
        "isReordered": False,
        "deleted": False,
        "isGenerated": False,
    }


def _charts(by: str, axes: Sequence[str], numeric: Sequence[str]) -> list[dict[str, Any]]:
    common = {
        "metricSectionId": SECTION,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 20,
    }
    charts: list[dict[str, Any]] = [
        {
            **common,
            "type": "LINE",
            "uuid": f"{SECTION}-{name}",
            "metricKey": f"curve/{name}",
            "selectedMetricKeys": [f"curve/{name}"],
            "displayName": f"{catalog.title(name)} by epoch",
            "xAxisKey": "step",
            "useGlobalXaxisKey": False,
        }
        for name in dict.fromkeys((by, "generalization_gap"))
    ]
    charts += [
        {
            **common,
            "type": "SCATTER",
            "uuid": f"{SECTION}-{axis}-{name}",
            "displayName": f"{catalog.title(name)} by {axis}",
            "xaxis": {"key": axis, "type": "PARAM"},
            "yaxis": {"key": f"final/{name}", "type": "METRIC"},
        }
        for axis in numeric[:3]
        for name in (by, "variance")
    ]
    if len(axes) > 1:
        charts.append(
            {
                **common,
                "type": "PARALLEL",
                "uuid": f"{SECTION}-parallel",
                "displayName": f"all settings and {catalog.title(by)}",
                "selectedParams": list(axes),
                "selectedMetrics": [f"final/{by}"],
                "showAllRuns": True,
            }
        )
    return charts


def view_path(experiment_id: str) -> str:
    """Where the prepared view is, after a server's address."""
    return f"/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={VIEW}"


def run_path(experiment_id: str, run_id: str) -> str:
    """Where a run is."""
    return f"/#/experiments/{experiment_id}/runs/{run_id}?workflowType=machine_learning"


def note(text: str) -> str:
    """Markdown that fits a description, cut between lines."""
    if len(text) <= LONGEST_NOTE:
        return text
    return text[:LONGEST_NOTE].rpartition("\n")[0] + "\n\n*The rest is in report.html.*"


def dataset(name: str, digest: str, **profile: Any) -> dict[str, str]:
    """A dataset as the outbox carries it."""
    source = name.partition(" ")[0]
    return {
        "name": source,
        "digest": digest[:DIGEST_DIGITS],
        "source": source,
        "profile": json.dumps({**profile, "sha256": digest}),
    }


def log_inputs(client: Any, run_id: str, datasets: Sequence[dict[str, str]]) -> None:
    """Give a run its datasets. Twice does no harm: MLflow knows them by name and digest."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = [
        DatasetInput(
            Dataset(
                d["name"],
                d["digest"],
                "code",
                json.dumps({"name": d["source"]}),
                profile=d["profile"],
            ),
            [InputTag("mlflow.data.context", "training")],
        )
        for d in datasets
    ]
    client.log_inputs(run_id, inputs)


def tag_experiment(client: Any, experiment_id: str, tags: dict[str, str]) -> None:
    for key, value in tags.items():
        client.set_experiment_tag(experiment_id, key, value)
