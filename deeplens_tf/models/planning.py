"""Building a model without memory for its weights, to learn their shapes."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import keras

Plan = TypeVar("Plan")


def without_values(build: Callable[[], Plan]) -> Plan:
    """Call a function that builds a model, in a scope in which variables have no values.

    Keras gives such variables values when the next stateless scope of the same thread ends, so
    the function runs in a thread of its own. Python's random numbers, from which Keras draws seeds,
    continue afterwards as if it had not run.

    Args:
        build: builds the model and returns what is needed of it, such as shapes.
    """

    def plan() -> Plan:
        with keras.StatelessScope(initialize_variables=False):
            return build()

    state = random.getstate()
    try:
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(plan).result()
    finally:
        random.setstate(state)
