"""The gateway. Its packages are in the environment of `make setup-dev`."""

import pytest

pytest.importorskip("aiohttp", reason="the gateway's packages are not installed: make setup-dev")
