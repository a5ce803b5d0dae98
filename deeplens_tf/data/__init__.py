"""From image files or arrays to batches: reading, preparing, tf.data."""

from deeplens_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ArrayData": "array_data",
        "ImageData": "image_data",
        "PreparedData": "prepared_data",
        "Preprocessing": ".preprocessing.preprocessing",
        "ValueScale": ".preprocessing.value_scale",
        "from_arrays": "array_data",
        "image_batches": "batches",
        "open_data": "prepared_data",
        "open_folder": "prepared_data",
        "prepare_folder": "preparing",
        "read_image": "image_files",
        "resize_and_scale": ".preprocessing.scaling",
        "summarise": "summary",
        "view_batches": "batches",
    },
)
