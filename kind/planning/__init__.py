"""What an experiment costs before it is run: jobs, parameters, multiply-accumulates, disk, hours.  Imports no torch."""
