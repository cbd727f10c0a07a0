"""KIND: decomposable diffusion transformers, their rivals, and the benchmark that compares them."""
