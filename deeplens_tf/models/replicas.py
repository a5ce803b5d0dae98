"""What a loss over a batch needs of the other replicas of a model."""

from keras import KerasTensor


class Replicas:
    """The one replica of a model on a single device: the batch is all there.

    A model that computes on several devices is handed an object of the same kind by
    `deeplens_tf.distribution.strategy`. Each replica then sees an equal part of the batch, in the
    replicas' order, and returns its part of the loss: what is left is their sum.
    """

    count = 1

    def gather(self, rows: KerasTensor) -> KerasTensor:
        """Return the rows of all replicas, in the replicas' order, with their gradients.

        Args:
            rows: this replica's, shape (batch, ...).

        Returns:
            Shape (count x batch, ...). What flows back to a row is the sum over all replicas.
        """
        return rows

    def first_row(self, rows: KerasTensor) -> KerasTensor | int:
        """Return at which of the gathered rows this replica's own `rows` begin."""
        return 0

    def mean(self, value: KerasTensor) -> KerasTensor:
        """Return the mean over the replicas of a value that each has its own of."""
        return value


ONE_DEVICE = Replicas()
