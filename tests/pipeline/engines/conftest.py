import pytest

from tests.support.fake_gpu import FakeCuda


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda()
