# Weights that others published, where an experiment needs them and neither its params nor a variable names a path.
# They are fetched on the machine that runs Snakemake: jobs of a cluster may have no network, and never download.

import re

from kind import weights as published


localrules: fetch


rule fetch:
    output:
        published.FOLDER / "{weights}" / "{file}",
    log:
        published.FOLDER / "{weights}.{file}.log",
    wildcard_constraints:
        weights="|".join(published.WEIGHTS),
        file="|".join(sorted({re.escape(file.name) for one in published.WEIGHTS.values() for file in one.files})),
    retries: 0
    priority: 200  # so that a run without a network ends before much is done
    message:
        "fetch weights {wildcards.weights}: {wildcards.file}"
    shell:
        "{KIND} fetch {wildcards.weights:q} --only {wildcards.file:q} > {log:q} 2>&1"
