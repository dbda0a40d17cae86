"""The laws see what they are for: bugs that people really write, planted one at a time, and each is caught.

Each mutant replaces one piece of ``attention.py`` that occurs exactly once, so that a mutant that no longer
fits the code fails loudly instead of testing nothing.
"""

import inspect
from functools import partial

import pytest
import torch
from laws import ATTEND, CASES, FACTS, LAYERS
from planted import first_broken, load

from manyheads import attention

SOURCE = inspect.getsource(attention)

# name: (what stands in attention.py, what a bug puts there, a law that must see it)
MUTANTS = {
    # scores and softmax
    "no scale": ("scale = query.shape[-1] ** -0.5 if", "scale = 1.0 if", "pencil_numbers"),
    "scale by d_head": ("query.shape[-1] ** -0.5", "query.shape[-1] ** -1.0", "pencil_numbers"),
    "scale by the number of keys": ("query.shape[-1] ** -0.5", "key.shape[-2] ** -0.5", "pencil_numbers"),
    "scale upside down": ("(query * scale)", "(query / scale)", "pencil_numbers"),
    "own scale forgotten on the fused path": (
        "dropout, causal, scale=scale)",
        "dropout, causal)",
        "attend_agrees_with_torch",
    ),
    "softmax over the queries": ("return scores.softmax(-1)", "return scores.softmax(-2)", "pencil_numbers"),
    "softmax over the queries without gradients": (
        "torch.softmax(scores, -1,",
        "torch.softmax(scores, -2,",
        "without_gradients_the_numbers_are_the_same_and_the_inputs_untouched",
    ),
    "exp without a sum": ("return scores.softmax(-1)", "return scores.exp()", "pencil_numbers"),
    "no gradient through the keys": (
        "@ _without_hidden(key, mask).mT",
        "@ _without_hidden(key, mask).mT.detach()",
        "a_blind_query_gets_zeros_even_from_a_kernel_that_knows_no_such_query",
    ),
    # masks
    "mask inverted in the open": (
        "scores.masked_fill(~mask, torch",
        "scores.masked_fill(mask, torch",
        "pencil_numbers",
    ),
    "mask inverted in the fused path": (
        "mask = torch.atleast_2d(mask)",
        "mask = ~torch.atleast_2d(mask)",
        "pencil_numbers",
    ),
    "mask ignored in the fused path": (
        "mask = torch.atleast_2d(mask)",
        "mask = torch.atleast_2d(torch.ones_like(mask))",
        "pencil_numbers",
    ),
    "mask multiplies the scores": (
        "scores.masked_fill(~mask, torch.finfo(scores.dtype).min)",
        "scores * mask",
        "pencil_numbers",
    ),
    "masked after the softmax only": (
        "scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)",
        "pass",
        "pencil_numbers",
    ),
    "1e-9 for -1e9": ("torch.finfo(scores.dtype).min", "1e-9", "pencil_numbers"),
    "-inf, so that a blind query gets NaN": (
        "torch.finfo(scores.dtype).min)\n    return _softmax(scores).masked_fill(~mask, 0.0)",
        "-torch.inf)\n    return _softmax(scores)",
        "a_blind_query_gets_zeros_even_from_a_kernel_that_knows_no_such_query",
    ),
    "a blind query looks at everything in the fused path": (
        "mix if mask is None else mix.masked_fill(blind, 0.0)",
        "mix",
        "a_blind_query_gets_zeros_even_from_a_kernel_that_knows_no_such_query",
    ),
    "only what is blind in every query counts as blind": (
        "~_any(mask, -1)[..., None]",
        "~mask.any()",
        "a_blind_query_gets_zeros_even_from_a_kernel_that_knows_no_such_query",
    ),
    "a blind query looks at everything": (
        "return _softmax(scores).masked_fill(~mask, 0.0)",
        "return _softmax(scores)",
        "a_blind_query_gets_zeros_even_from_a_kernel_that_knows_no_such_query",
    ),
    "a mask of one axis": ("mask = torch.atleast_2d(mask)", "mask = mask", "pencil_numbers"),
    "causal forgotten in the open": (
        "mask, causal = past if mask is None else mask & past, False",
        "mask, causal = mask, False",
        "many_models_at_once_are_models_one_by_one",
    ),
    "causal forgotten beside a mask": (
        "past if mask is None else mask & past",
        "past if mask is None else mask",
        "attend_is_the_sum_written_out_by_hand",
    ),
    "causal or mask, not both": (
        "else mask & past",
        "else mask | past",
        "attend_is_the_sum_written_out_by_hand",
    ),
    "causal that hides the present": (
        ".tril(n_key - n_query)",
        ".tril(n_key - n_query - 1)",
        "the_causal_mask_is_the_past_and_the_present",
    ),
    "causal that sees one step ahead": (
        ".tril(n_key - n_query)",
        ".tril(n_key - n_query + 1)",
        "the_causal_mask_is_the_past_and_the_present",
    ),
    "causal upside down": (
        ".tril(n_key - n_query)",
        ".triu(n_key - n_query)",
        "the_causal_mask_is_the_past_and_the_present",
    ),
    "causal from the first key": (
        ".tril(n_key - n_query)",
        ".tril()",
        "the_causal_mask_is_the_past_and_the_present",
    ),
    "causal with a cache left to torch": (
        " or mask is not None or query.shape[-2] != key.shape[-2])",
        " or mask is not None)",
        "impossible_masks_say_so",
    ),
    "padding off by one": (
        "device=lengths.device) < lengths",
        "device=lengths.device) <= lengths",
        "the_padding_mask_keeps_the_real_tokens",
    ),
    "mask of a batch taken for one of heads": (
        "return mask.unsqueeze(-3) if mask.ndim > 1 else mask",
        "return mask",
        "many_heads_are_the_sum_written_out_by_hand",
    ),
    # what is hidden
    "a hidden key still computed with": (
        "key = _without_hidden(key, mask)",
        "key = key",
        "a_key_hidden_from_all_changes_nothing_whatever_it_holds",
    ),
    "a hidden key in the gradient of the open path": (
        "@ _without_hidden(key, mask).mT",
        "@ key.mT",
        "a_key_hidden_from_all_changes_nothing_whatever_it_holds",
    ),
    "a hidden value times zero": (
        "value = _without_hidden(value, mask)",
        "value = value",
        "a_key_hidden_from_all_changes_nothing_whatever_it_holds",
    ),
    "hidden where one query can't see": (
        "_any(torch.atleast_2d(mask), -2)",
        "torch.atleast_2d(mask).all(-2)",
        "attend_is_the_sum_written_out_by_hand",
    ),
    "hidden times zero": (
        "torch.where(_any(torch.atleast_2d(mask), -2)[..., None], x, 0.0)",
        "x * _any(torch.atleast_2d(mask), -2)[..., None]",
        "a_key_hidden_from_all_changes_nothing_whatever_it_holds",
    ),
    "a large negative number for what is hidden": (
        "torch.finfo(scores.dtype).min",
        "-1e6",
        "no_score_is_too_low_for_a_hidden_key_to_weigh_nothing",
    ),
    "float16's lowest number for what is hidden": (
        "torch.finfo(scores.dtype).min",
        "torch.finfo(torch.float16).min",
        "no_score_is_too_low_for_a_hidden_key_to_weigh_nothing",
    ),
    # dtypes, devices, transforms
    "float16 scores": (
        "if dtype in (torch.float16, torch.bfloat16):",
        "if False:",
        "float16_holds_the_weights_of_scores_that_it_cannot_hold",
    ),
    "weights left in float32": (
        "return _softmax(scores).to(dtype)",
        "return _softmax(scores)",
        "float16_holds_the_weights_of_scores_that_it_cannot_hold",
    ),
    "a scale of nothing taken for none": (
        "scale = query.shape[-1] ** -0.5 if scale is None else scale",
        "scale = scale or query.shape[-1] ** -0.5",
        "a_scale_of_nothing_means_even_weights",
    ),
    "no transform without gradients": (
        "except RuntimeError:  # under vmap",
        "except ZeroDivisionError:  #",
        "many_at_once_are_one_by_one_without_gradients_too",
    ),
    "two squares without gradients": (
        "return torch.softmax(scores, -1, out=scores)",
        "return scores.softmax(-1)",
        "the_open_path_adds_one_square_of_scores_and_with_gradients_two",
    ),
    "a causal mask on the CPU": (
        "key.shape[-2], device=query.device)",
        "key.shape[-2]).to(query.device)",
        "everything_runs_where_there_are_shapes_and_no_numbers",
    ),
    "lengths looked at where there are none": (
        "if not lengths.is_meta and lengths",
        "if lengths",
        "everything_runs_where_there_are_shapes_and_no_numbers",
    ),
    "a head made on the CPU": (
        "with self.in_proj_weight.device:",
        "if True:",
        "everything_runs_where_there_are_shapes_and_no_numbers",
    ),
    # leading axes
    "leading axes of the query alone": (
        "*(x.shape[:-2] for x in (query, key, value))",
        "*(x.shape[:-2] for x in (query,))",
        "one_set_of_queries_may_ask_many_sequences",
    ),
    "axes counted by the query alone": (
        "n_axes = max(query.ndim, key.ndim, value.ndim)",
        "n_axes = query.ndim",
        "one_set_of_queries_may_ask_many_sequences",
    ),
    "a head's dropout kept": (
        "self.d_head, bias=self.in_proj_bias is not None)",
        "self.d_head, bias=self.in_proj_bias is not None, dropout=self.dropout)",
        "layers_drop_only_while_they_are_trained",
    ),
    "values of the key where query and key are one": (
        "if query is key is value:",
        "if query is key:",
        "values_come_from_the_value_whatever_the_others_are",
    ),
    "keys of the query where query and value are one": (
        "if query is key is value:",
        "if query is value:",
        "values_come_from_the_value_whatever_the_others_are",
    ),
    # dropout
    "dropped weights returned": (
        "return F.dropout(weights, dropout, training=dropout > 0) @ value, weights",
        "return (left := F.dropout(weights, dropout, dropout > 0)) @ value, left",
        "layers_drop_only_while_they_are_trained",
    ),
    "dropout forgotten in the open": (
        "training=dropout > 0",
        "training=False",
        "dropout_drops_weights_each_on_its_own_and_keeps_their_mean",
    ),
    "dropout forgotten in the fused path": (
        "mask, dropout, causal, scale",
        "mask, 0.0, causal, scale",
        "dropout_drops_weights_each_on_its_own_and_keeps_their_mean",
    ),
    "dropout also after training": (
        "if self.training else 0.0\n        mix, weights = _pair(\n            attend(q",
        "if True else 0.0\n        mix, weights = _pair(\n            attend(q",
        "layers_drop_only_while_they_are_trained",
    ),
    "inputs dropped, not weights": (
        "return F.dropout(weights, dropout, training=dropout > 0) @ value, weights",
        "return weights @ F.dropout(value, dropout, training=True), weights",
        "dropout_drops_weights_each_on_its_own_and_keeps_their_mean",
    ),
    # splitting and merging
    "split without transpose": (
        "return x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)",
        "return x.reshape(*x.shape[:-2], n_heads, x.shape[-2], -1)",
        "no_bias_means_no_bias",
    ),
    "heads interleaved": (
        "x.unflatten(-1, (n_heads, -1)).transpose(-3, -2)",
        "x.unflatten(-1, (-1, n_heads)).movedim(-1, -3)",
        "no_bias_means_no_bias",
    ),
    "merge without transpose": (
        "return x.transpose(-3, -2).flatten(-2)",
        "return x.reshape(*x.shape[:-3], x.shape[-2], -1)",
        "no_bias_means_no_bias",
    ),
    "heads added, not laid side by side": (
        "return x.transpose(-3, -2).flatten(-2)",
        "return x.sum(-3)",
        "gradients_are_the_slopes",
    ),
    "axes of length 1 lost": ("mix = mix[(0,) * (4 - n_axes)]", "mix = mix.squeeze()", "pencil_numbers"),
    # projections
    "W_o forgotten": (
        "out = self.out_proj(merge_heads(mix))",
        "out = merge_heads(mix)",
        "no_bias_means_no_bias",
    ),
    "W_o transposed": (
        "out = self.out_proj(merge_heads(mix))",
        "out = F.linear(merge_heads(mix), self.out_proj.weight.T, self.out_proj.bias)",
        "gradients_are_the_slopes",
    ),
    "bias of W_o forgotten": (
        "out = self.out_proj(merge_heads(mix))",
        "out = F.linear(merge_heads(mix), self.out_proj.weight)",
        "many_heads_are_single_heads_side_by_side_in_value_and_gradient",
    ),
    "k and v swapped": ("attend(q, k, v, mask", "attend(q, v, k, mask", "no_bias_means_no_bias"),
    "q and k swapped": ("q, k, v = packed.split", "k, q, v = packed.split", "no_bias_means_no_bias"),
    "q and k swapped in one head": (
        "query, key, value = F.linear(x",
        "key, query, value = F.linear(x",
        "no_bias_means_no_bias",
    ),
    "projections in another order in cross-attention": (
        "(query, key, value), weights, biases)",
        "(query, key, value), weights[::-1], biases)",
        "gradients_are_the_slopes",
    ),
    "bias forgotten in cross-attention": (
        "(None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.split(self.widths)",
        "(None,) * 3",
        "many_heads_are_single_heads_side_by_side_in_value_and_gradient",
    ),
    "cross-attention takes its values from the query": (
        "value = key if value is None",
        "value = query if value is None",
        "no_bias_means_no_bias",
    ),
    "own values ignored": (
        "map(F.linear, (query, key, value), weights",
        "map(F.linear, (query, key, key), weights",
        "agrees_with_torch_multihead_attention",
    ),
    "weights start at zero": (
        "nn.init.xavier_uniform_(torch.empty(d_out, d_in))",
        "torch.zeros(d_out, d_in)",
        "a_new_layer_is_ready_to_learn",
    ),
    # shared K/V heads and single heads
    "K/V heads dealt out in turn": (
        "x.repeat_interleave(self.n_heads // self.n_kv_heads, -3)",
        "torch.cat([x] * (self.n_heads // self.n_kv_heads), -3)",
        "many_heads_are_the_sum_written_out_by_hand",
    ),
    "a head with another head's keys": (
        "i_kv = i * self.n_kv_heads // self.n_heads",
        "i_kv = i % self.n_kv_heads",
        "each_head_taken_out_is_a_layer_of_its_own",
    ),
    "a head with its values for keys": (
        "self.n_heads + i_kv, self.n_heads + self.n_kv_heads + i_kv)",
        "self.n_heads + self.n_kv_heads + i_kv, self.n_heads + i_kv)",
        "no_bias_means_no_bias",
    ),
    "a head with rows, not columns, of W_o": (
        "self.out_proj.weight.unflatten(1, (self.n_heads, -1))[:, i]",
        "self.out_proj.weight.unflatten(1, (-1, self.n_heads))[..., i]",
        "no_bias_means_no_bias",
    ),
    "every head brings an output bias": (
        '        one.out_proj.register_parameter("bias", None)\n',
        "",
        "each_head_taken_out_is_a_layer_of_its_own",
    ),
    "a head that shares memory with the layer": (
        "one.out_proj.weight.copy_(self.out_proj.weight.unflatten(1, (self.n_heads, -1))[:, i])",
        "one.out_proj.weight.data = self.out_proj.weight.data.unflatten(1, (self.n_heads, -1))[:, i]",
        "each_head_taken_out_is_a_layer_of_its_own",
    ),
    # errors
    "inputs unchecked": ("    _check(query, key, value, mask)\n", "", "mismatched_widths_say_so"),
    "float masks taken": ("if mask.dtype != torch.bool:", "if False:", "a_wrong_mask_says_so"),
    "mask may enlarge the scores": (
        "m in (1, s) for m, s",
        "1 in (m, s) or m == s for m, s",
        "a_wrong_mask_says_so",
    ),
    "sizes unchecked": (
        "sizes = of_heads(d_model, n_heads, n_kv_heads, d_head)",
        "sizes = d_model, n_heads, n_kv_heads or n_heads, d_head or d_model // n_heads",
        "an_uneven_split_says_so",
    ),
    "sizes of one head unchecked": (
        "= counts(d_model=d_model, d_head=d_model if d_head is None else d_head)",
        "= d_model, d_model if d_head is None else d_head",
        "heads_are_counted_from_one_and_named_from_zero",
    ),
    "a head counted in fractions": (
        "(i,) = whole(i=i)",
        "pass",
        "heads_are_counted_from_one_and_named_from_zero",
    ),
    "split into a fraction of heads": (
        "    (n_heads,) = counts(n_heads=n_heads)\n",
        "",
        "heads_are_counted_from_one_and_named_from_zero",
    ),
    "dropout unchecked in attend": (
        "    _check(query, key, value, mask)\n    share(dropout=dropout)\n",
        "    _check(query, key, value, mask)\n",
        "a_dropout_that_is_no_share_says_so",
    ),
    "arrays taken for tensors": (
        "if not isinstance(x, Tensor):",
        "if False:",
        "what_is_no_tensor_of_floating_point_says_so",
    ),
    "integers taken": (
        "not query.is_floating_point() or ",
        "",
        "what_is_no_tensor_of_floating_point_says_so",
    ),
    "dtypes mixed": (" or len(set(dtypes)) > 1:", ":", "what_is_no_tensor_of_floating_point_says_so"),
    "one token without its axis": (
        "        if x.ndim < 2:\n            raise ValueError(\n",
        "        if False:\n            raise ValueError(\n",
        "what_is_no_tensor_of_floating_point_says_so",
    ),
    "the layer's dtype unchecked": (
        "if x.dtype != dtype and",
        "if False and",
        "what_is_no_tensor_of_floating_point_says_so",
    ),
    "no autocast": (
        " and not torch.is_autocast_enabled(x.device.type)",
        "",
        "what_is_no_tensor_of_floating_point_says_so",
    ),
    "a mask's shape told as the layer made it": (
        "    _check_mask(mask, (*scores[:-3], *scores[-2:]))\n",
        "",
        "a_wrong_mask_says_so",
    ),
    "an array for a layer's mask": (
        '(..., head, query, key)."""\n    _check_tensor("mask", mask)\n',
        '(..., head, query, key)."""\n',
        "a_wrong_mask_says_so",
    ),
    "weights of an unchecked mask": (
        "_check(query, key, key, mask)",
        "_check(query, key, key, None)",
        "a_wrong_mask_says_so",
    ),
    "a mask where lengths belong": ("if lengths.ndim != 1:", "if False:", "impossible_masks_say_so"),
    "lengths that are true or false": (" or lengths.dtype == torch.bool:", ":", "impossible_masks_say_so"),
    "head counted from the end": (
        "if not 0 <= i < self.n_heads:",
        "if not i < self.n_heads:",
        "heads_are_counted_from_one_and_named_from_zero",
    ),
    "one head too many": (
        "if not 0 <= i < self.n_heads:",
        "if not 0 <= i <= self.n_heads:",
        "heads_are_counted_from_one_and_named_from_zero",
    ),
}
SEEN_BY_SHAPES = {
    "mask of a batch taken for one of heads",
    "heads added, not laid side by side",
    "cross-attention takes its values from the query",
}


def checks(of=None):
    """Name and call of every fact, then of every law on every case; or of one fact or law."""
    yield from ((fact.__name__, fact) for fact in FACTS if of in (None, fact.__name__))
    for law in ATTEND + LAYERS:
        if of in (None, law.__name__):
            yield from ((law.__name__, partial(law, case=case)) for case in CASES)


def shapes_are_right(module):
    """All that many tests of attention look at."""
    x, context, width = torch.randn(2, 4, 12), torch.randn(2, 6, 12), 12
    layer = module.MultiHeadAttention(width, 3)
    assert layer(x).shape == layer(x, causal=True).shape == layer(x, context).shape == (2, 4, width)
    assert layer(x, context, return_weights=True)[1].shape == (2, 3, 4, 6)
    assert layer(x, mask=torch.ones(2, 4, 4, dtype=torch.bool)).shape == (2, 4, width)
    assert module.SelfAttention(width)(x).shape == (2, 4, width)


def test_the_laws_hold_for_the_unchanged_copy():
    assert first_broken(load(SOURCE), checks()) is None
    shapes_are_right(load(SOURCE))


@pytest.mark.parametrize("name", MUTANTS)
def test_the_laws_catch(name):
    old, new, law = MUTANTS[name]
    assert SOURCE.count(old) == 1, (
        f"this mutant no longer fits attention.py: {old!r} occurs {SOURCE.count(old)} times"
    )
    mutant = load(SOURCE.replace(old, new))
    assert first_broken(mutant, checks(law)) == law, "the law doesn't see this bug"
    assert (first_broken(mutant, [("shapes", shapes_are_right)]) is not None) == (name in SEEN_BY_SHAPES)


def test_a_test_of_shapes_sees_almost_nothing():
    """At the sizes that people choose nearly every bug keeps the shapes, as the test above has just shown."""
    assert MUTANTS.keys() > SEEN_BY_SHAPES
    assert len(MUTANTS) >= 30
    assert len(SEEN_BY_SHAPES) < len(MUTANTS) / 10
