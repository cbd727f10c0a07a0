"""The verbs of the pipeline: thin mains that wire the nouns together."""
