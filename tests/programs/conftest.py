"""These tests run on every device."""

from tests.cuda.devices import device as device
