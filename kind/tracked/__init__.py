"""What MLflow is told of an experiment, read from its files.  Nothing here imports mlflow or writes a file."""
