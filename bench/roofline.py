"""What limits a training step: its matrix products, at their own shapes, and the bytes that all the rest moves."""

import math
import re
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from bench.operations import operations

#: Shapes of both factors of a product, and whether each is transposed.
Product = tuple[tuple[int, int], tuple[int, int], bool, bool]

#: Repetitions of a timed call, of which the fastest counts.
_REPEATS = 20

#: Numbers of the array by which the bandwidth is measured, about those of the step's largest activations.
_NUMBERS = 1_250_000

#: What XLA's text says of an instruction: its name, its type, the operation, and the operands.
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)(?:, |$)")
_SHAPE = re.compile(r"(pred|[sufb]+\d+)\[([\d,]*)\]")

#: XLA's count of operands, which stands before every fifth of them.
_COUNT = re.compile(r"/\*.*?\*/")

#: Operations that move nothing, and products, which are timed.
_NO_TRAFFIC = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element", "dot", "custom-call"}


def products_of(function: Callable[..., Any], *arguments: Any) -> list[Product]:
    """The matrix products of a function.

    Args:
        function: Traced, not run; a gradient in it counts.
        *arguments: Tensors or `tf.TensorSpec`, with static shapes.

    Raises:
        ValueError: If it has products of another kind, such as convolutions.
    """
    graph = tf.function(function).get_concrete_function(*arguments).graph
    found = [
        (*(tuple(factor.shape) for factor in node.inputs), node.get_attr("transpose_a"), node.get_attr("transpose_b"))
        for node in graph.get_operations()
        if node.type == "MatMul"
    ]
    counted = sum(2 * math.prod(left) * right[0 if second else 1] for left, right, _, second in found)
    if counted != (all_of_them := operations(function, *arguments)):
        raise ValueError(f"matrix products of {counted} operations, expected all {all_of_them}: others are not timed")
    return found


def bytes_moved(hlo: str) -> int:
    """Bytes that the instructions of a compiled computation read and write, products left out.

    An instruction reads all of its operands and writes its result; one that reads a part of an operand is counted with
    the whole.

    Args:
        hlo: XLA's text of the optimised computation.
    """
    sizes: dict[str, int] = {}
    moved = 0
    for line in hlo[hlo.index("\nENTRY ") :].splitlines():
        if found := _INSTRUCTION.match(_COUNT.sub("", line)):
            name, kind, operation, operands = found.groups()
            sizes[name] = sum(map(_bytes, _SHAPE.findall(kind)))
            if operation not in _NO_TRAFFIC:
                read = {operand.split()[-1].lstrip("%") for operand in operands.split(", ") if operand}
                moved += sizes[name] + sum(sizes[operand] for operand in read)
    return moved


def _bytes(shape: tuple[str, str]) -> int:
    kind, sides = shape
    bits = 8 if kind == "pred" else int(re.sub(r"\D", "", kind))
    return math.prod(map(int, filter(None, sides.split(",")))) * bits // 8


def seconds_of_products(products: list[Product]) -> float:
    """Seconds that these products take in one compiled call."""
    factors = [[tf.random.stateless_normal(shape, (0, 0)) for shape in shapes] for *shapes, _, _ in products]

    @tf.function(jit_compile=True)
    def multiply() -> list[tf.Tensor]:
        return [
            tf.matmul(left, right, transpose_a=first, transpose_b=second)
            for (left, right), (*_, first, second) in zip(factors, products, strict=True)
        ]

    return _fastest(multiply)


def bandwidth() -> float:
    """Bytes per second of a compiled sum of two arrays."""
    one, other = (tf.random.stateless_normal((_NUMBERS,), (seed, 0)) for seed in (1, 2))
    return 3 * 4 * _NUMBERS / _fastest(lambda: _sum(one, other))


@tf.function(jit_compile=True)
def _sum(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    return one + other


def _fastest(function: Callable[[], Any]) -> float:
    function()
    seconds = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        function()  # on the CPU it has ended when it returns
        seconds.append(time.perf_counter() - began)
    return min(seconds)
