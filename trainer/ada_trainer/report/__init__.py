"""One self-contained HTML page about an experiment; the program is `program.main`."""
