"""What a loss over a batch needs from the other replicas of a model."""

import keras
from keras import KerasTensor


class Replicas:
    """A single device, which holds the whole batch.

    On several devices `deeplens_tf.distribution` gives the model an object with the same methods.
    Each replica then has an equal part of the batch, in the order of the replicas, and returns its
    part of the loss; the parts are added up.
    """

    count = 1

    def gather(self, rows: KerasTensor) -> KerasTensor:
        """Return the rows of all replicas, in their order, with gradients.

        Args:
            rows: this replica's rows, shape (batch, ...).

        Returns:
            Shape (count x batch, ...). The gradient of a row is the sum over all replicas.
        """
        return rows

    def first_row(self, rows: KerasTensor) -> KerasTensor | int:
        """Return the index at which this replica's own `rows` begin among the gathered ones."""
        return 0

    def mean(self, value: KerasTensor) -> KerasTensor:
        """Return the mean of a value over the replicas."""
        return value


ONE_DEVICE = Replicas()


def require_replicas(model: keras.Model) -> None:
    """Refuse a model in the scope of a strategy whose replicas it does not know.

    Each replica would find its negatives in its own part of the batch only, and the parts of the
    loss would add up to a multiple of it.

    Args:
        model: with an attribute `replicas`.

    Raises:
        ValueError: the strategy has another number of replicas than `model.replicas`.
    """
    # Keras's own; a backend without strategies does not have it.
    strategy = getattr(model, "distribute_strategy", None)
    count = getattr(strategy, "num_replicas_in_sync", 1)
    if count != model.replicas.count:
        raise ValueError(
            f"{model.name} was created in the scope of a strategy of {count} replicas: call "
            "deeplens_tf.distribution.connect_replicas(model) after compile. "
            f"Received: a model that knows {model.replicas.count}"
        )
