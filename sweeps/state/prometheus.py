"""Numbers in the text format that Prometheus reads. Source: prometheus.io/docs/instrumenting/exposition_formats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Metric:
    """One metric: its name without `engram_`, a sentence, and a value for each set of labels."""

    name: str
    help: str
    samples: Sequence[tuple[dict[str, str], float]]
    kind: str = "gauge"  # or counter


def text(metrics: Sequence[Metric]) -> str:
    lines = []
    for metric in metrics:
        name = f"engram_{metric.name}"
        lines += [f"# HELP {name} {_escaped(metric.help)}", f"# TYPE {name} {metric.kind}"]
        lines += [f"{name}{_labels(labels)} {value:.10g}" for labels, value in metric.samples]
    return "\n".join(lines) + "\n"


def _labels(labels: dict[str, str]) -> str:
    quoted = (f'{key}="{_escaped(value, quotes=True)}"' for key, value in labels.items())
    return f"{{{','.join(quoted)}}}" if labels else ""


def _escaped(value: str, quotes: bool = False) -> str:
    found = value.replace("\\", "\\\\").replace("\n", "\\n")
    return found.replace('"', '\\"') if quotes else found
