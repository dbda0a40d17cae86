"""Looks at heads and switches them off: what they do, how much, and what is lost without them."""

from torch import Tensor, nn

from manyheads.attention import MultiHeadAttention


def attention_layers(model: nn.Module) -> dict[str, MultiHeadAttention]:
    """Find the attention layers of a model, in the order in which they stand.

    Parameters
    ----------
    model : Module

    Returns
    -------
    dict
        Each layer under its name in ``model``; one that is used several times appears once.
    """
    return {name: part for name, part in model.named_modules() if isinstance(part, MultiHeadAttention)}


def gated(model: nn.Module, gates: list[Tensor] | Tensor) -> dict[str, Tensor]:
    """Put a gate on every head: 1 leaves it as it is, 0 switches it off, in between there is a gradient.

    Since a layer's output is Σ head_i W_o,i, a gate on a head is a factor on its slice of W_o. Use it
    with ``torch.func.functional_call(model, gated(model, gates), inputs)``.

    Parameters
    ----------
    model : Module
    gates : Tensor of shape (layer, head), or list of Tensor of shape (head,)
        One gate a head for each of :func:`attention_layers`.

    Returns
    -------
    dict of Tensor
        The scaled ``out_proj.weight`` of each layer, under its name in ``model``.

    Raises
    ------
    ValueError
        If the gates don't match the layers and their heads.

    Source: Michel, Levy & Neubig 2019, section 2.2.
    """
    layers = attention_layers(model)
    wanted, found = [layer.n_heads for layer in layers.values()], [gate.numel() for gate in gates]
    if wanted != found:
        raise ValueError(f"each head needs one gate: the layers have {wanted} heads, got {found} gates")
    prefix = {name: f"{name}." if name else "" for name in layers}
    return {
        f"{prefix[name]}out_proj.weight": layer.out_proj.weight
        * gate.to(layer.out_proj.weight.dtype).repeat_interleave(layer.d_head)
        for (name, layer), gate in zip(layers.items(), gates, strict=True)
    }
