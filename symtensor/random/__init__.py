"""Random variables: streams of random numbers that compiled functions draw from."""

from .state import RandomStateVariable, StreamState, random_state
from .streams import MRG_RandomStreams, RandomStream, RandomStreams

__all__ = [
    "MRG_RandomStreams", "RandomStateVariable", "RandomStream", "RandomStreams", "StreamState", "random_state",
]  # fmt: skip
