"""The vision transformer against onnxruntime, which runs the very file that the weights come from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from manyheads import vit
from manyheads.packages import weights_file

LAYERS = range(12)
EMBEDDED, OUT = "/backbone/embeddings/Add_output_0", "/backbone/layernorm/Add_1_output_0"
HIDDEN = [f"/backbone/encoder/layer.{i}/Add_1_output_0" for i in LAYERS]
WEIGHTS = [f"/backbone/encoder/layer.{i}/attention/attention/Softmax_output_0" for i in LAYERS]


@pytest.fixture(scope="module")
def small():
    return vit.load_vit_small()


@pytest.fixture(scope="module")
def theirs():
    """The graph in onnxruntime, for pictures of any size, with what happens inside as its outputs."""
    (name,) = vit.VIT_SMALL.files
    model = onnx.load(weights_file(vit.VIT_SMALL.folder, name))
    axes = model.graph.input[0].type.tensor_type.shape.dim
    axes[2].dim_param, axes[3].dim_param = "height", "width"
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in (EMBEDDED, *HIDDEN, *WEIGHTS, OUT))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def run(pictures, names):
        mean, deviation = (np.array(x, "float32")[:, None, None] for x in (vit.MEAN, vit.DEVIATION))
        found = session.run(names, {"input_image": (pictures.numpy() - mean) / deviation})
        return [torch.from_numpy(one) for one in found]

    return run


def pictures(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def tiny(n_heads=2, grid=3, n_colours=2, patch=2):
    torch.manual_seed(0)
    made = vit.Vit(10, 7, n_heads, 2, patch=patch, grid=grid, n_colours=n_colours)
    return made.double().requires_grad_(False)


# ---------------------------------------------------------------------- the real model


@pytest.mark.parametrize(("height", "width"), [(224, 224), (70, 98), (14, 42)])
def test_the_real_model_is_what_onnxruntime_runs(small, theirs, height, width):
    x = pictures(2, 3, height, width)
    out, trace = small.trace(x)
    embedded, *inside, wanted = theirs(x, [EMBEDDED, *HIDDEN, *WEIGHTS, OUT])
    assert torch.allclose(trace.hidden[0], embedded, atol=1e-4)
    for i in LAYERS:
        assert torch.allclose(trace.hidden[i + 1], inside[i], atol=1e-4), i
        assert torch.allclose(trace.weights[i], inside[12 + i], atol=1e-4), i
    assert torch.allclose(out, wanted, atol=1e-4)
    assert torch.allclose(small(x), out, atol=1e-4)


def test_on_its_own_grid_the_learned_places_are_taken_as_they_are(small, theirs):
    x = pictures(1, 3, 518, 518)
    assert torch.allclose(small.tokens(x), theirs(x, [EMBEDDED])[0], atol=1e-4)


def test_the_size_and_the_kind_of_numbers_are_as_stated(small):
    assert len(small.stack.blocks) == 12
    assert {block.attention.n_heads for block in small.stack.blocks} == {6}
    assert {block.attention.d_head for block in small.stack.blocks} == {64}
    assert sum(p.numel() for p in small.parameters()) == 22_046_976
    assert not any(p.requires_grad for p in small.parameters())
    assert {p.dtype for p in small.parameters()} == {torch.float32}
    double = vit.load_vit_small(torch.float64)
    assert {p.dtype for p in double.parameters()} == {torch.float64}
    x = pictures(1, 3, 28, 42)
    assert torch.allclose(double(x.double()), small(x).double(), atol=1e-3)


def test_another_file_is_refused(monkeypatch):
    files = dict.fromkeys(vit.VIT_SMALL.files, "0" * 64)
    monkeypatch.setattr(vit, "VIT_SMALL", replace(vit.VIT_SMALL, files=files))
    with pytest.raises(ValueError, match=r"vit_s_focus\.onnx must have SHA-256 0{64}, it has 198644e3"):
        vit.load_vit_small()


def test_a_missing_package_names_the_command(monkeypatch):
    monkeypatch.setattr(vit, "VIT_SMALL", replace(vit.VIT_SMALL, folder="no_such_package"))
    with pytest.raises(FileNotFoundError, match="make models"):
        vit.load_vit_small()


# ---------------------------------------------------------------------- patches


def test_patches_are_read_row_by_row():
    """Each axis has its own size: 2 pictures, 3 colours, 2 × 3 patches of 5 × 5."""
    x = pictures(2, 3, 10, 15)
    found = vit.cut(x, 5)
    assert found.shape == (2, 6, 75)
    for row in range(2):
        for column in range(3):
            piece = x[:, :, 5 * row : 5 * row + 5, 5 * column : 5 * column + 5]
            assert torch.equal(found[:, 3 * row + column], piece.reshape(2, 75))


@given(
    n=st.integers(1, 3),
    n_colours=st.integers(1, 4),
    size=st.integers(1, 5),
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
)
def test_cutting_is_what_unfold_does(n, n_colours, size, rows, columns):
    x = pictures(n, n_colours, size * rows, size * columns)
    wanted = F.unfold(x, size, stride=size).mT
    assert torch.equal(vit.cut(x, size), wanted)
    assert torch.equal(vit.cut(x[0], size), wanted[0])  # any leading axes


@given(rows=st.integers(1, 5), columns=st.integers(1, 5), n=st.integers(1, 3))
def test_embedding_is_a_convolution_that_steps_a_patch_at_a_time(rows, columns, n):
    model = tiny()
    x = pictures(n, 2, 2 * rows, 2 * columns).double()
    filters = model.embedding.weight.unflatten(1, (2, 2, 2))
    embedded = F.conv2d(x, filters, model.embedding.bias, stride=2).flatten(2).mT
    tokens = model.tokens(x)
    assert tokens.shape == (n, 1 + rows * columns, 10)
    assert torch.allclose(tokens[:, 1:] - model._position(rows, columns)[1:], embedded, atol=1e-12)
    out, trace = model.trace(x)
    assert torch.allclose(model(x), out, atol=1e-12)
    assert [tuple(w.shape) for w in trace.weights] == [(n, 2, 1 + rows * columns, 1 + rows * columns)] * 2


@pytest.mark.parametrize(
    ("height", "width", "words"),
    [
        (225, 224, "14 pixels: 225 × 224 leaves 1 and 0; resize or crop, as to 224 × 224"),
        (224, 13, "224 × 13 leaves 0 and 13; resize or crop, as to 224 × 14"),
        (0, 14, "0 × 14"),
    ],
)
def test_a_side_that_is_no_multiple_of_the_patch_says_so(height, width, words):
    with pytest.raises(ValueError, match=words):
        vit.cut(torch.zeros(1, 3, height, width), 14)


def test_a_picture_without_colours_says_so():
    with pytest.raises(ValueError, match=r"\(\.\.\., colour, row, column\), got \(28, 28\)"):
        vit.cut(torch.zeros(28, 28), 14)


# ---------------------------------------------------------------------- places


def test_on_the_learned_grid_no_place_is_changed():
    model = tiny()
    assert torch.equal(model._position(3, 3), model.position)


def test_places_on_another_grid_keep_their_order():
    """Places that grow along a row grow along a row on every grid; and so down a column."""
    model = tiny(grid=5)
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    model.position[1:, 0], model.position[1:, 1] = rows.flatten().double(), columns.flatten().double()
    found = model._position(4, 7)[1:].unflatten(0, (4, 7))
    assert (found[..., 0].diff(dim=0) > 0).all()
    assert (found[..., 1].diff(dim=1) > 0).all()
    assert torch.allclose(found[..., 0], found[:, :1, 0])
    assert torch.allclose(found[..., 1], found[:1, :, 1])
    assert torch.equal(model._position(4, 7)[0], model.position[0])  # [CLS] has no place to move to


def test_without_places_the_order_of_patches_is_not_known():
    model = tiny()
    model.position.zero_()
    x = pictures(1, 2, 6, 6).double()
    turned = x.flip(-1)  # the same pixels, so first undo the turn within each patch
    turned = turned.unflatten(-1, (3, 2)).flip(-1).flatten(-2)
    assert torch.allclose(model(x)[:, 0], model(turned)[:, 0], atol=1e-12)
    model = tiny()
    assert not torch.allclose(model(x)[:, 0], model(turned)[:, 0], atol=1e-3)


def test_a_classifier_reads_the_cls_token_only():
    model = vit.Classifier(tiny(), 10, 7).double()
    x = pictures(3, 2, 6, 6).double()
    wanted = F.linear(model.vit(x)[:, 0], model.read_out.weight, model.read_out.bias)
    assert torch.allclose(model(x), wanted)
    assert wanted.shape == (3, 7)


# ---------------------------------------------------------------------- bugs that these tests see

BUGS = {
    "patches column by column": (
        "pieces.movedim((-4, -2), (-5, -4))",
        "pieces.movedim((-2, -4), (-5, -4))",
    ),
    "pixels of a patch column by column": ("pieces.flatten(-3)", "pieces.mT.flatten(-3)"),
    "colours last": ("pieces.flatten(-3)", "pieces.movedim(-3, -1).flatten(-3)"),
    "[CLS] behind the patches": ("torch.cat([cls, patches], -2)", "torch.cat([patches, cls], -2)"),
    "places turned": ("other.flatten(1).T]", "other.mT.flatten(1).T]"),
    "places bilinear": ('"bicubic"', '"bilinear"'),
    "norms after the sum": ("norm_first=True", "norm_first=False"),
    "LayerScale left out": (": after_attention\n", ": 1\n"),
    "colours not reduced": ("bias - (filters.sum((2, 3)) * mean).sum(1)", "bias"),
    "queries and keys swapped": ('("query", "key", "value")', '("key", "query", "value")'),
    "values and keys swapped": ('("query", "key", "value")', '("query", "value", "key")'),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_seen(bug, theirs):
    """Each is planted in a copy of the module, and onnxruntime is asked for the truth."""
    right, wrong = BUGS[bug]
    source = Path(vit.__file__).read_text(encoding="utf-8")
    assert source.count(right) == 1, "the bug no longer fits the source"
    room = {"__name__": "mutant"}
    exec(compile(source.replace(right, wrong), "mutant", "exec"), room)
    x = pictures(1, 3, 70, 98)
    found = room["load_vit_small"](torch.float32)(x)
    assert not torch.allclose(found, theirs(x, [OUT])[0], atol=1e-2)
