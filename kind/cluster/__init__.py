"""What runs depend on outside this machine: SLURM, MLflow's server; and what a killed run left behind.  No torch."""
