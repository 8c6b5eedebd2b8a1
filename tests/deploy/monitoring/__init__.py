"""Alerts, rules and the dashboard."""
