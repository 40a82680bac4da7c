"""examples/backbones: an encoder out of an int8 ONNX file."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from making import ROOT, make_encoder

torch = pytest.importorskip("torch")
quantization = pytest.importorskip("onnxruntime.quantization")


def test_an_int8_encoder_becomes_a_folder_of_float32(tmp_path: Path) -> None:
    import transformers

    spec = importlib.util.spec_from_file_location("example", ROOT / "examples/backbones/from_int8_onnx.py")
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    source = make_encoder(tmp_path / "source")
    model = transformers.BertModel.from_pretrained(source, add_pooling_layer=False, attn_implementation="eager")

    for parameter in model.parameters():  # equal ones, such as biases of 0, would be one in the file
        parameter.data.add_(torch.randn_like(parameter), alpha=0.02)

    class Exported(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            return self.bert(input_ids=ids, attention_mask=mask, token_type_ids=types)[0]

    ids, names = torch.ones(1, 5, dtype=torch.int64), ["input_ids", "attention_mask", "token_type_ids"]
    axes = {name: {0: "rows", 1: "tokens"} for name in names}
    inputs = (ids, ids, torch.zeros_like(ids))
    file = tmp_path / "float32.onnx"
    torch.onnx.export(Exported().eval(), inputs, file, input_names=names, dynamic_axes=axes, dynamo=False)
    quantization.quantize_dynamic(file, source / "model.onnx")

    example.main(source, tmp_path / "out")

    ours, first = transformers.BertModel.from_pretrained(tmp_path / "out").state_dict(), model.state_dict()
    for name, value in first.items():
        step = float(np.ptp(value.numpy())) / 255
        assert float((ours[name] - value).abs().max()) <= step, name

    example.LEAST_COSINE = 1.1  # out of reach
    with pytest.raises(SystemExit, match="cosine"):
        example.main(source, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
