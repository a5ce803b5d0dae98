"""Training around Keras's `fit`: pretraining, fine-tuning, optimisers, callbacks."""

from deeplens_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "CollapseWarning": "callbacks",
        "build_method": "methods",
        "build_optimizer": "optimizers",
        "finetune": "finetuning",
        "pretrain": "pretraining",
    },
)
