"""One report of everything that is measured: the benchmarks in turns, a file, a page."""
