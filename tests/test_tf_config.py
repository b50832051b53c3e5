"""Which workers TF_CONFIG may name; that several train as one does is proven in tests/scale."""

import pytest
import tensorflow as tf

from pipeline.tf_config import join

TWO = '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}'


def test_without_a_cluster_one_worker_is_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert join(1) is tf.distribute.get_strategy()
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}')
    assert join(1) is tf.distribute.get_strategy()


@pytest.mark.parametrize(
    ("count", "config", "message"),
    [
        (2, "", r"train\.workers = 2, but TF_CONFIG names 0 \(none\): it should name"),
        (1, TWO, r"train\.workers = 1, but TF_CONFIG names 2 \(a:1, b:2\)"),
        (3, TWO, r"train\.workers = 3, but TF_CONFIG names 2"),
        (2, "{", "TF_CONFIG = '{': "),
        (2, "[]", "train.workers = 2, but TF_CONFIG names 0"),
        (2, TWO.replace("0", "2"), "its task worker 2 is none of the cluster"),
        (2, TWO.replace("0", "-1"), "its task worker -1 is none of the cluster"),
        (2, TWO.replace('"type": "worker"', '"type": "chief"'), "TF_CONFIG = .*chief"),
        (2, TWO.replace(', "task": {"type": "worker", "index": 0}', ""), "TF_CONFIG = "),
        (2, TWO.replace('{"worker": [', '{"ps": ["c:3"], "worker": ['), "it names tasks other than chief and worker"),
    ],
)
def test_workers_that_do_not_fit_are_refused(
    monkeypatch: pytest.MonkeyPatch, count: int, config: str, message: str
) -> None:
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(ValueError, match=message):
        join(count)
