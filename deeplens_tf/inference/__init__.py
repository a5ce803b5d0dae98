"""What a trained model says of new images, and the features of an encoder for them."""

from deeplens_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "attention_rollout": "attention_maps",
        "embed": "embedding",
        "explain": "explaining",
        "export": "exporting",
        "occlusion_maps": "occlusion",
        "map_embeddings": "mapping",
        "predict": "predicting",
        "read_embeddings": "embedding_files",
        "search": "searching",
    },
)
