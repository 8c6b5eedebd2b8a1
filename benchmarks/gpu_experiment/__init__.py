"""One script for a borrowed GPU: what stand-ins on a CPU cannot show (docs/gpu-experiment.md)."""
