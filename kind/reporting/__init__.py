"""From the files of a finished experiment to tables, plots, sample grids and one page.  Imports only the stdlib."""
