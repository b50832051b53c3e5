"""Networks in the Open Neural Network Exchange format (ONNX), with the same bytes each time they are written."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
import tensorflow as tf
import tf2onnx
from onnx import numpy_helper

from vae.mean_image import MeanImages
from vae.model import VAE

#: The set of operators; every ONNX Runtime since 1.14 has it.
OPSET = 18

#: The version of the format that came with it: the newest that such a runtime reads.
_IR_VERSION = 8


def to_onnx(vae: VAE, border_gray: float) -> dict[str, onnx.ModelProto]:
    """Converts encoder, decoder, mean images and, if the prior is learned, both of its ways; nothing in them is random.

    Args:
        vae: The model.
        border_gray: Mean gray of the outermost pixels of its images, 0 to 1. The encoder states it in its metadata, so
            that an image that is dark where these are bright can be told.

    Returns:
        `encoder`: image (batch, rows, columns) to mean and log_var (batch, latent); `decoder`: latent (batch, latent)
        and, if it is autoregressive, image to logits, both (batch, rows, columns); `mean_image`: latent (batch, latent)
        to image (batch, rows, columns). If the prior is no N(0, I), `prior`: noise (batch, latent) to latent (batch,
        latent), and its inverse `prior_noise`, with log_det (batch,), the log of |det d noise / d latent|. All float32,
        for any batch.
    """
    latent = vae.decoder.inputs[:1]
    networks: dict[str, tuple[Callable[..., Any], Sequence[Any], Sequence[str]]] = {
        "encoder": (vae.encoder, vae.encoder.inputs, ("mean", "log_var")),
        "decoder": (
            lambda *inputs: vae.decoder(inputs if vae.autoregressive else inputs[0]),
            vae.decoder.inputs,
            ("logits",),
        ),
        "mean_image": (MeanImages(vae).of, latent, ("image",)),
    }
    if vae.prior is not None:
        networks["prior"] = (vae.prior.generate, vae.prior.generate.inputs, ("latent",))
        networks["prior_noise"] = (vae.prior.normalise, latent, ("noise", "log_det"))
    converted = {name: _converted(name, *network) for name, network in networks.items()}
    onnx.helper.set_model_props(converted["encoder"], {"border_gray": f"{border_gray:.6f}"})
    return converted


def _converted(
    name: str, network: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[str]
) -> onnx.ModelProto:
    signature = [tf.TensorSpec((None, *node.shape[1:]), tf.float32, node.name) for node in inputs]
    model, _ = tf2onnx.convert.from_function(tf.function(lambda *given: network(*given)), signature, opset=OPSET)
    canonical = _canonical(model, name, outputs)
    onnx.checker.check_model(canonical, full_check=True)
    return canonical


def _canonical(model: onnx.ModelProto, name: str, outputs: Sequence[str]) -> onnx.ModelProto:
    """The same graph under names and in an order that follow from its content.

    The converter's names vary from process to process. Here a value is named by the hash of what computes it, which
    also merges equal ones, and nodes are sorted by their depth.
    """
    graph = model.graph
    names = {value.name: value.name for value in graph.input} | {"": ""}
    constants = {}
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        names[tensor.name] = f"constant_{_digest(str((array.dtype, array.shape)).encode(), array.tobytes())}"
        constants[names[tensor.name]] = array
    nodes: dict[str, onnx.NodeProto] = {}
    depths: dict[str, int] = {}
    for node in graph.node:  # ONNX demands that they stand in a topological order
        named = _named(node, names)
        names.update(zip(node.output, named.output, strict=True))
        nodes[named.name] = named
        depths.update(dict.fromkeys(named.output, 1 + max((depths.get(value, 0) for value in named.input), default=0)))
    ordered = sorted(nodes.values(), key=lambda node: (depths[node.output[0]], node.name))
    results = [(names[value.name], output) for value, output in zip(graph.output, outputs, strict=True)]
    made = onnx.helper.make_graph(
        [*ordered, *(onnx.helper.make_node("Identity", [value], [output], output) for value, output in results)],
        name,
        [_described(value, value.name) for value in graph.input],
        [_described(value, output) for value, output in zip(graph.output, outputs, strict=True)],
        [numpy_helper.from_array(constants[key], key) for key in sorted(constants)],
    )
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(made, producer_name="fashion-vae", opset_imports=opsets, ir_version=_IR_VERSION)


def _named(node: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """A node and its outputs, named by the hash of what it computes; its inputs have their names already."""
    named = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
    named.input.extend(names[value] for value in node.input)
    named.attribute.extend(sorted(node.attribute, key=lambda attribute: attribute.name))
    named.name = f"{node.op_type}_{_digest(named.SerializeToString(deterministic=True))}"
    named.output.extend(f"{named.name}:{number}" for number in range(len(node.output)))
    return named


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _described(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    """An input or output of any batch."""
    sizes = [dimension.dim_value for dimension in value.type.tensor_type.shape.dim]
    return onnx.helper.make_tensor_value_info(name, value.type.tensor_type.elem_type, ["batch", *sizes[1:]])


def to_bytes(model: onnx.ModelProto) -> bytes:
    """The content of a model's file; equal models give equal bytes."""
    return model.SerializeToString(deterministic=True)
