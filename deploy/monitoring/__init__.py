"""What watches a server: Prometheus' configuration and rules, and a dashboard for Grafana."""
