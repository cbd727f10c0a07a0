# The graph: params in, report out.  Rules are in workflow/rules, one file a stage family.
#   snakemake --profile local      the experiment `smoke` on this machine
#   snakemake --profile slurm      the paper's experiments on a cluster
#   snakemake ... analyses         only the analyses that the params ask for, and what they need
#   --config experiment=NAME       another one: params/NAME.yaml, or a path to a file

include: "workflow/rules/common.smk"
include: "workflow/rules/warm_start.smk"
include: "workflow/rules/tracking.smk"
include: "workflow/rules/weights.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/finetune.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/analyse.smk"
include: "workflow/rules/tune.smk"
include: "workflow/rules/report.smk"


localrules: all


rule all:
    default_target: True
    input:
        [path for name in EXPERIMENTS for path in results_of(name)],
    message:
        "everything of " + ", ".join(EXPERIMENTS)  # Snakemake would list all of it
