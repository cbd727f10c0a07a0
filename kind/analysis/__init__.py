"""What samples do not show of models: pure functions of matrices and models."""
