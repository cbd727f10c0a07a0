"""The runs table that the UI opens with: the report's rows and its headline metrics.

MLflow shows no metric in that table until somebody picks columns.  A picked table can be shared: the UI's *Share* keeps
what was picked in a tag of the experiment, and `viewStateShareKey` in an address names the tag.  This is such a tag.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from kind.reporting.comparisons import HEADLINE
from kind.reporting.labels import matches

ROWS = "tags.stage = 'evaluate' and tags.superseded = 'false'"
COSTS = ("parameters/trainable", "cost/train_seconds")


def table_view(metrics: Iterable[str]) -> str:
    """metrics: the columns of the report's metrics.csv."""
    names = list(metrics)
    headline = dict.fromkeys(name for prefix in HEADLINE for name in names if matches(name, prefix))
    columns = [f"metrics.`{name}`" for name in (*headline, *COSTS)]
    order = {"orderByKey": "attributes.`run_name`", "orderByAsc": True}
    shown = {"selectedColumns": columns, "runsHiddenMode": "SHOW_ALL"}  # charts too; by themselves they show ten runs
    return json.dumps({"searchFilter": ROWS, **order, **shown})
