"""The diffusion transformer, its factorized form, the class gate and the ways to take it apart."""
