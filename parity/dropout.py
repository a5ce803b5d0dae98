"""The effect of dropout in a transformer block: the spread of its outputs over many draws."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from parity.exchange import Arrays, named
from parity.vision_transformer import Block, block_variables

RATE = 0.1
TOKENS, WIDTH = 5, 48
DRAWS, AT_ONCE = 6_000, 2_000


def dropout_cases(generator: np.random.Generator) -> Arrays:
    """Return a block's weights, its input and the standard deviation of each output."""
    tokens = generator.normal(size=(TOKENS, WIDTH)).astype(np.float32)
    block = Block(RATE, name="block")
    repeated = tf.repeat(tokens[None], AT_ONCE, axis=0)
    outputs = [block(repeated, training=True).numpy() for _ in range(DRAWS // AT_ONCE)]
    weights = {name: value.numpy() for name, value in block_variables(block).items()}
    spread = np.concatenate(outputs).std(axis=0, dtype=np.float64)
    return {"tokens": tokens, "spread": spread, **named("weights", weights)}
