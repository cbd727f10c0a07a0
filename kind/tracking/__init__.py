"""MLflow: an index of an experiment's files.  The only folder that imports mlflow; no job does."""
