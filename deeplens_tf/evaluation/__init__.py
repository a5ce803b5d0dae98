"""Scoring models and encoders, reports of runs, and comparisons of runs."""

from deeplens_tf.lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "classification_intervals": ".metrics.classification",
        "classification_metrics": ".metrics.classification",
        "compare_runs": "comparison",
        "comparison_figure": "comparison_chart",
        "evaluate_probe": "probe_report",
        "evaluate_run": "model_report",
        "markdown_table": "comparison",
        "probe": "encoder_probe",
        "regression_intervals": ".metrics.regression",
        "regression_metrics": ".metrics.regression",
        "summary_table": "report_folder",
    },
)
