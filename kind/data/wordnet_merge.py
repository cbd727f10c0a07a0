"""The rule that merges ImageNet's classes by WordNet 3.0, and a command that makes a mapping of any size by it.

    python -m kind.data.wordnet_merge NUM_CLASSES > mapping.tsv

`kind/data/tables/imagenet_611.tsv` is what it makes for 611.  Ids, lemmas, hypernyms and depths in it are WordNet's
(ImageNet's wnids are its noun offsets); its licence stands beside the table.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Mapping, Sequence

from kind.data.sources.imagenet611 import TABLE, read_table


def merge(rows: Sequence[Mapping[str, str]], num_classes: int) -> dict[str, str]:
    """Merged id of each wnid.  rows: wnid, direct_hypernym, hypernym_maxdepth.

    Leaves that share their first direct hypernym are a group.  Groups are merged, each into its hypernym, the deepest
    hypernym first (by its longest path from the root; of equal ones the smaller id first), until `num_classes` or fewer
    are left.  It is our choice: the paper says only that similar classes were merged by WordNet superclass into 611.
    """
    groups: dict[str, list[str]] = {}
    depth = {row["direct_hypernym"]: int(row["hypernym_maxdepth"]) for row in rows}
    for row in rows:
        groups.setdefault(row["direct_hypernym"], []).append(row["wnid"])
    merged, left = {row["wnid"]: row["wnid"] for row in rows}, len(rows)
    for hypernym in sorted(groups, key=lambda name: (-depth[name], name)):
        members = groups[hypernym]
        if left > num_classes and len(members) > 1:
            merged |= dict.fromkeys(members, hypernym)
            left -= len(members) - 1
    return merged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("num_classes", type=int)
    rows = read_table(TABLE)
    merged = merge(rows, parser.parse_args().num_classes)
    writer = csv.DictWriter(sys.stdout, list(rows[0]), delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"merged_id": merged[row["wnid"]]} for row in rows)


if __name__ == "__main__":
    main()
