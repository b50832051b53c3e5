"""How many operations a computation takes, from the shapes of its graph."""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import tensorflow as tf

#: The graph operations that are matrix products or convolutions; a gradient of a convolution is one too.
_PRODUCTS = {"MatMul", "BatchMatMulV2", "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter"}

#: A product whose operations TensorFlow's profiler does not know.
_UNKNOWN = {"Einsum"}


def operations(function: Callable[..., Any], *arguments: Any) -> int:
    """Operations of the matrix products and convolutions of one call, two for each multiply-add.

    TensorFlow's profiler counts them from the shapes, so all of these have to be static. Work that is no product is
    not counted.

    Args:
        function: Traced, not run.
        *arguments: Tensors or `tf.TensorSpec`.

    Returns:
        Operations.

    Raises:
        ValueError: If there is a product that the profiler does not count, as in the body of a loop.
    """
    graph = tf.function(function).get_concrete_function(*arguments).graph
    called = {node.op for body in graph.as_graph_def().library.function for node in body.node_def}
    uncounted = called & (_PRODUCTS | _UNKNOWN) | {node.type for node in graph.get_operations()} & _UNKNOWN
    if uncounted:
        raise ValueError(
            f"{', '.join(sorted(uncounted))} in the graph, as an operation that cannot be counted or within a loop or "
            f"call: expected plain products in the function itself"
        )
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    chosen = options.with_accounted_types([f"^({'|'.join(sorted(_PRODUCTS))})$"]).with_empty_output().build()
    with contextlib.redirect_stdout(io.StringIO()):
        return int(profiler.profile(graph, options=chosen).total_float_ops)
