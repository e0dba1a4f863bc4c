"""What a cluster's autoscaler may add: Ray keeps it in a private table, which is read here alone."""

from __future__ import annotations

from ray._private.state import state


def node_groups() -> list[dict[str, float]]:
    """Resources of each kind of node that the autoscaler has told of; [] where it has not."""
    config = state.get_cluster_config()
    groups = [] if config is None else config.node_group_configs
    return [dict(group.resources) for group in groups if group.max_count]
