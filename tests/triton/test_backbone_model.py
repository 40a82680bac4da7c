"""The backbone as a Triton model of its own: the scorer calls it and nothing changes."""

from __future__ import annotations

import random
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from attempts import INFER_GRPC
from decoders import POSITIONS, template
from doors import Place, bearer, needs_haproxy, serving
from families import make_family
from making import TASKS, WORDS, make_adapter
from scoremux_client import Response, ScoringClient
from scoremux_engine import Engine
from scoremux_engine.runners.choose import REFERENCE
from scoremux_engine.store.store import Store
from scoremux_export.export_graph import export_backbone
from scoremux_export.opening.openable import Opening
from scoremux_server.front_door.config import Backend
from scoremux_server.profile import Profile
from watching import unwatched

pytestmark = pytest.mark.triton


def test_the_scorer_calls_the_backbone_and_no_bit_changes(small_repository: Path) -> None:
    draw = random.Random(2)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(0, 60))) for _ in range(120)]
    tasks = draw.choices(list(TASKS), k=len(texts))
    engine = Engine.open(small_repository, runner=REFERENCE)
    expected, vectors = engine.score(texts, tasks), engine.embed(texts, tasks)
    with (
        unwatched(small_repository, profile=Profile(runner="triton", backend="python")) as server,
        ScoringClient(server.endpoints.grpc_url) as client,
        ScoringClient(server.endpoints.grpc_url, embeddings=True) as asks,
    ):
        rows = [Response(task, text) for task, text in zip(tasks, texts, strict=True)]
        served, with_vectors = client.score(rows), asks.score(rows)
    assert served == with_vectors == expected
    assert [np.asarray(one.embedding).tobytes() for one in with_vectors] == [vector.tobytes() for vector in vectors]


def test_a_decoder_with_its_weights_beside_the_graph_is_served(tmp_path: Path) -> None:
    source = make_family("llama", tmp_path / "source", max_position_embeddings=POSITIONS)
    backbone = export_backbone(str(source), Opening("q_proj,v_proj"), tmp_path / "repository", one_file_bytes=1000)
    folders = [
        make_adapter(tmp_path / "t-1", backbone.spec, "t-1", levels=3),
        make_adapter(tmp_path / "points", backbone.spec, "points", levels=1, task_json={"levels": [0, 0.5, 2]}),
        make_adapter(tmp_path / "prefixed", backbone.spec, "prefixed", levels=3, task_json=template(1, " [SEP]")),
    ]
    assert backbone.spec.prefix_layers
    Store(tmp_path / "repository" / "store").add(folders, backbone)
    texts = ("the router", "", "a bridge is lost [PAD]")
    rows = [Response(folder.name, text) for text in texts for folder in folders]
    engine = Engine.open(tmp_path / "repository", runner=REFERENCE)
    expected = engine.score([row.text for row in rows], [row.task for row in rows])
    profile = Profile(runner="triton", backend="python")
    with (
        unwatched(tmp_path / "repository", profile=profile) as server,
        ScoringClient(server.endpoints.grpc_url) as client,
    ):
        served = client.score(rows)
    assert served == expected
    assert all(one.ok and (one.probabilities == ()) == (one.task == "points") for one in served)


def test_a_store_of_another_backbone_stops_the_start(own_repository: Path) -> None:
    manifest = Store(own_repository / "store").manifest()
    other = manifest.model_copy(update={"backbone": "f" * 64})
    (own_repository / "store" / "manifest.json").write_bytes(other.to_json())
    from scoremux_server.errors import StartError

    with pytest.raises(StartError, match="belongs to backbone ffffffffffff"):
        unwatched(own_repository).__enter__()


@needs_haproxy
def test_a_token_does_not_lead_to_the_backbone_by_a_request_that_names_two_models(
    small_repository: Path, tmp_path: Path
) -> None:
    def refusal(place: Place, hidden: str) -> str:
        # Of two names HAProxy reads the first, Triton the last.
        first, last = (service_pb2.ModelInferRequest(model_name=name) for name in ("scorer", hidden))
        roots = grpc.ssl_channel_credentials((tmp_path / "ca.pem").read_bytes())
        with grpc.secure_channel(f"localhost:{place.port}", roots) as channel:
            call = channel.unary_unary(INFER_GRPC, lambda body: body, lambda body: body)
            with pytest.raises(grpc.RpcError) as refused:
                headers = list(bearer(place.everything).items())
                call(first.SerializeToString() + last.SerializeToString(), metadata=headers, timeout=60)
        return str(refused.value.details())

    with serving(small_repository, tmp_path / "triton.log", runner="triton", backend="python") as server:
        place = Place(tmp_path)
        with place.open(Backend.of(server.endpoints)):
            assert "inputs but got 0 inputs" in refusal(place, server.backbone_model)
            assert "unknown model: 'backbone' is not found" in refusal(place, "backbone")
