"""Against the frameworks' own pipelines and runners, which `make test-agents` installs."""
