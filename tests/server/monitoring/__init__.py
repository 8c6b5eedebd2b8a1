"""What watches a real server: its metrics, its traces, Prometheus with our alerts."""
