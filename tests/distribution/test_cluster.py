"""Who trains together: TF_CONFIG as clusters set it, and as people mistype it."""

import json

import pytest

from deeplens_tf.distribution.cluster import Cluster, read_cluster
from deeplens_tf.errors import RequestError

WORKERS = {"worker": ["a:1", "b:1"]}


def config(cluster, job="worker", index=0):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})}


def test_workers_alone_as_the_training_operator_names_them():
    assert read_cluster(config(WORKERS, index=1)) == Cluster(("a:1", "b:1"), 1)
    as_text = {
        "TF_CONFIG": json.dumps({"cluster": WORKERS, "task": {"type": "worker", "index": "1"}})
    }
    assert read_cluster(as_text).index == 1


def test_a_chief_comes_before_the_workers_as_vertex_names_them():
    cluster = {"worker": ["b:1", "c:1"], "chief": ["a:1"]}
    assert read_cluster(config(cluster, "chief")) == Cluster(("a:1", "b:1", "c:1"), 0)
    assert read_cluster(config(cluster, "worker", 1)) == Cluster(("a:1", "b:1", "c:1"), 2)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TF_CONFIG": ""},
        {"TF_CONFIG": "{"},
        {"TF_CONFIG": "[]"},
        {"TF_CONFIG": '{"cluster": {"worker": "a:1"}, "task": {"type": "worker", "index": 0}}'},
        {"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}}'},
        config(WORKERS, index=2),
        config(WORKERS, index=-1),
        config(WORKERS, job="ps"),
        config({"worker": [1, 2]}),
    ],
)
def test_what_names_no_cluster_is_a_wrong_request(environment):
    with pytest.raises(
        RequestError, match=r"TF_CONFIG describes no cluster .* it should be like {"
    ):
        read_cluster(environment)
