"""Images as patches, numbered row by row: splitting, joining, selecting."""

from keras import KerasTensor, ops


def patchify(images: KerasTensor, patch_size: int) -> KerasTensor:
    """Split images into patches.

    Args:
        images: shape (batch, height, width, bands).
        patch_size: side in pixels; divides height and width.

    Returns:
        Shape (batch, patches, patch_size * patch_size * bands).
    """
    height, width, bands = images.shape[1:]
    rows, columns = height // patch_size, width // patch_size
    cells = ops.reshape(images, (-1, rows, patch_size, columns, patch_size, bands))
    cells = ops.transpose(cells, (0, 1, 3, 2, 4, 5))  # (batch, rows, columns, p, p, bands)
    return ops.reshape(cells, (-1, rows * columns, patch_size * patch_size * bands))


def unpatchify(
    patches: KerasTensor, image_shape: tuple[int, int, int], patch_size: int
) -> KerasTensor:
    """Join patches to images: the inverse of `patchify`.

    Args:
        patches: shape (batch, patches, patch_size * patch_size * bands).
        image_shape: (height, width, bands).
        patch_size: side in pixels.

    Returns:
        Shape (batch, height, width, bands).
    """
    height, width, bands = image_shape
    rows, columns = height // patch_size, width // patch_size
    cells = ops.reshape(patches, (-1, rows, columns, patch_size, patch_size, bands))
    cells = ops.transpose(cells, (0, 1, 3, 2, 4, 5))  # (batch, rows, p, columns, p, bands)
    return ops.reshape(cells, (-1, height, width, bands))


def choose(patches: KerasTensor, indices: KerasTensor) -> KerasTensor:
    """Select patches of each image by its own indices, in their order.

    Args:
        patches: shape (batch, patches, size).
        indices: shape (batch, chosen), integers below the number of patches.

    Returns:
        Shape (batch, chosen, size).
    """
    batch, count = ops.shape(patches)[0], patches.shape[1]
    firsts = count * ops.arange(batch, dtype="int32")[:, None]
    # One gather of whole rows is faster than one per value.
    rows = ops.reshape(patches, (-1, patches.shape[2]))
    return ops.take(rows, firsts + ops.cast(indices, "int32"), axis=0)
