"""What adaptation did to a model, beyond what samples show: pure functions of matrices and models."""
