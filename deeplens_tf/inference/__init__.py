"""What a trained model says of new images, and the features of an encoder for them."""

from deeplens_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "embed": "embedding",
        "export": "exporting",
        "map_embeddings": "mapping",
        "predict": "predicting",
        "read_embeddings": "embedding_files",
        "search": "searching",
    },
)
