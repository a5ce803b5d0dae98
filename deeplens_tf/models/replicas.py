"""What a loss over a batch needs from the other replicas of a model."""

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
