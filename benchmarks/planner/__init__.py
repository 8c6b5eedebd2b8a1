"""What machines that are not here would do: costs from the graphs, a simulated pipeline, published
figures to hold both against (`python -m benchmarks.plan`)."""
