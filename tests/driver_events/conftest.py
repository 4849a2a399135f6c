import pytest
from driver_world import World


@pytest.fixture
def world():
    return World()
