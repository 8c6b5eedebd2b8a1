"""The chart, read strictly, and its Envoy before two real servers; `make test-scale` runs these."""
