"""The sweeps of chapter 8 on a handful of texts, against plain ways to get the same numbers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from manyheads import compress, cost, heads
from manyheads.experiments import keep_few, prune_lookup, prune_rankings, retrieval, students
from manyheads.experiments.models import minilm
from manyheads.training import stream

TEXTS = [
    ["The dog sleeps in the sun.", "It is warm today.", "Nobody wakes it."],
    ["Rain fell on the coast all night long.", "Roads are closed."],
    ["A bank raised its rates again.", "Markets fell.", "People who owe money will pay more."],
    ["She won the race by a second.", "Her coach wept."],
    ["Parliament will vote on the law.", "The vote is on Monday, and it will be close."],
    ["A new whale was seen near the ice.", "It is small and grey."],
    ["Bread is dear this year.", "Wheat grew badly."],
]


@pytest.fixture(autouse=True)
def few_texts(monkeypatch):
    for file in (retrieval, prune_rankings):
        monkeypatch.setattr(file, "texts_of", lambda half: TEXTS[half:])


def model():
    return minilm(torch.float32)


def some_gates(seed=3, share=0.4):
    return list((torch.rand(6, 12, generator=stream(seed)) > share).float())


def test_ranks_by_hand():
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]])
    answer = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    assert retrieval.ranks(torch.cat([query, answer])).tolist() == [1, 2, 3]


def test_chance_is_what_random_orders_give():
    order = torch.rand(100_000, 7, generator=stream(0)).argsort(1)
    rank = 1 + order[:, 0]
    assert retrieval.chance(7) == pytest.approx((1 / rank).mean().item(), abs=0.005)
    assert retrieval.chance(1) == 1


def test_starting_late_reads_what_starting_early_reads():
    task = retrieval.Retrieval(0)
    texts = [text[0] for text in TEXTS] + [" ".join(text[1:]) for text in TEXTS]
    whole = model().sentence_vectors(texts)
    torch.testing.assert_close(task.vectors(heads.all_on(model())), whole, rtol=0, atol=1e-5)
    for layer in (0, 3, 5):
        gates = heads.all_on(model())
        gates[layer] = some_gates()[layer]
        ids, mask = model().tokenize(texts)
        masked = functional_call(model(), heads.gated(model(), gates), (ids, mask))
        wanted = retrieval.pooled(masked, mask)
        torch.testing.assert_close(task.vectors(gates), wanted, rtol=0, atol=1e-5)
        assert (wanted - whole).abs().max() > 1e-3


def test_only_the_beginning_of_a_text_is_read():
    long = "word " * 200
    ((_, ids, _, _),) = retrieval.Reading([long]).batches
    assert ids.shape == (1, retrieval.N_WORDS + 2)


def test_mrr_loss_and_likeness_are_plain_formulas():
    task, gates = retrieval.Retrieval(0), some_gates()
    query, answer = task.vectors(gates).double().chunk(2)
    cosine = (query @ answer.T).numpy()
    rank = [1 + sum(row > row[i]) for i, row in enumerate(cosine)]
    assert task.mrr(gates) == pytest.approx(np.mean([1 / r for r in rank]))
    shares = [np.exp(20 * row[i]) / np.exp(20 * row).sum() for i, row in enumerate(cosine)]
    assert task.loss(gates) == pytest.approx(-np.log(shares).mean(), rel=1e-4)
    whole = task.vectors(heads.all_on(model()))
    likeness = F.cosine_similarity(whole, task.vectors(gates)).mean().item()
    assert task.likeness(gates) == pytest.approx(likeness, abs=1e-5)


def test_the_gradient_rankings_are_differences_with_and_without_their_sign():
    found, signed = prune_rankings.gradient_ranking(), prune_rankings.signed_gradient_ranking()
    for layer, head in ((0, 7), (5, 3)):
        slopes = []
        for at in range(len(TEXTS)):
            answers = [" ".join(TEXTS[(at + step) % len(TEXTS)][1:]) for step in range(5)]
            ids, mask = model().tokenize([TEXTS[at][0], *answers])
            losses = []
            for value in (0.95, 1.05):
                gates = heads.all_on(model())
                gates[layer][head] = value
                out = functional_call(model(), heads.gated(model(), gates), (ids, mask))
                vectors = retrieval.pooled(out, mask)
                losses.append(F.cross_entropy(20 * (vectors[1:] @ vectors[0]), torch.tensor(0)).item())
            slopes.append((losses[1] - losses[0]) / 0.1)
        assert found[layer][head] == pytest.approx(np.mean(np.abs(slopes)), rel=0.03)
        assert signed[layer][head] == pytest.approx(-np.mean(slopes), rel=0.03)


def test_the_norm_ranking_is_a_loop_over_columns():
    found = prune_rankings.norm_ranking()
    for layer, head in ((0, 0), (2, 11), (5, 4)):
        weight = model().stack.blocks[layer].attention.out_proj.weight
        columns = weight[:, 32 * head : 32 * head + 32]
        assert found[layer][head] == pytest.approx(columns.square().sum().sqrt().item(), rel=1e-5)


def test_shapes_keep_what_they_say():
    counts = {}
    for name, kept in keep_few.SHAPES.items():
        stack = prune_rankings.shrunk(**kept | ({"ranking": "norm of W_o"} if "layers" not in kept else {}))
        gates = heads.all_on(stack)
        counts[name] = (len(stack.blocks), [len(gate) for gate in gates])
    assert counts["intact"] == (6, [12] * 6)
    assert counts["6 heads a layer"] == (6, [6] * 6)
    assert counts["2 heads a layer"] == (6, [2] * 6)
    assert counts["1 head a layer"] == (6, [1] * 6)
    assert counts["no attention"] == (6, [])
    assert sum(counts["12 heads in all"][1]) == 12
    assert counts["4 of 6 layers"] == (4, [12] * 4)
    assert counts["3 of 6 layers"] == (3, [12] * 3)


def test_the_best_two_of_a_layer_are_the_best_of_that_layer():
    stack = prune_rankings.shrunk(a_layer=2, ranking="norm of W_o")
    for block, whole, importance in zip(
        stack.blocks, model().stack.blocks, prune_rankings.norm_ranking(), strict=True
    ):
        best = importance.topk(2).indices.sort().values
        wanted = whole.attention.out_proj.weight.unflatten(1, (12, 32))[:, best].flatten(1)
        assert torch.equal(block.attention.out_proj.weight, wanted)
        assert sum(p.numel() for p in block.attention.parameters()) == cost.parameters(384, 2, d_head=32)


def test_as_many_a_layer_are_ranked_layer_by_layer():
    retrieval.on_half.cache_clear()
    few = prune_rankings.prune_evenly("norm of W_o", a_layer=[1, 12])["ranks"]
    best = [(one == one.max()).float() for one in prune_rankings.norm_ranking()]
    for gates, found in zip((best, heads.all_on(model())), few, strict=True):
        assert found.tolist() == retrieval.ranks(retrieval.on_half(1).vectors(gates)).tolist()
    retrieval.on_half.cache_clear()


def test_a_short_training_brings_the_vectors_nearer():
    retrieval.lessons.cache_clear()
    stack = prune_rankings.shrunk(a_layer=2, ranking="norm of W_o")
    trained = keep_few._retrained(stack, 15, 3e-4, seed=0)
    reading = retrieval.Reading([sentence for text in TEXTS for sentence in text])
    wanted, before, after = (reading.vectors(one) for one in (model().stack, stack, trained))
    assert compress.directions(after, wanted) < 0.8 * compress.directions(before, wanted)
    assert not any(p.requires_grad for p in trained.parameters())
    retrieval.lessons.cache_clear()


def test_lessons_compare_vectors_and_maps_of_real_tokens():
    retrieval.lessons.cache_clear()
    lessons = students.Lessons(maps=10)
    (words, mask), target = lessons.draw(stream(1), 5)
    torch.manual_seed(0)
    student = students.Student(12).double()
    vectors, weights = student(words, mask)
    rows = torch.randint(len(lessons.ids), (5,), generator=stream(1))
    _, trace = model().trace(lessons.ids[rows], lessons.real[rows])
    maps = torch.stack([trace.weights[2], trace.weights[5]]).double()
    wanted = model().sentence_vectors([s for text in TEXTS for s in text])[rows].double()
    both = mask[:, :, None] & mask[:, None, :]
    square = ((weights - maps) ** 2)[both[None, :, None].expand_as(maps)].mean()
    by_hand = 1 - (vectors * wanted).sum(-1).mean() + 10 * square
    assert lessons.loss((vectors, weights), target).item() == pytest.approx(by_hand.item(), rel=1e-4)
    plain = students.Lessons(maps=0)
    _, target = plain.draw(stream(1), 5)
    assert plain.loss((vectors, weights), target).item() == pytest.approx(
        1 - (vectors * wanted).sum(-1).mean().item(), rel=1e-4
    )
    few = students.Student(2).double()(words, mask)
    with pytest.raises(ValueError, match="head by head"):
        lessons.loss(few, lessons.draw(stream(1), 5)[1])
    retrieval.lessons.cache_clear()


def test_students_have_equally_many_parameters_whatever_their_heads():
    sizes = {h: sum(p.numel() for p in students.Student(h).parameters()) for h in (0, 1, 2, 4, 8, 12)}
    assert len({sizes[h] for h in (1, 2, 4, 8, 12)}) == 1
    assert sizes[12] - sizes[0] == 2 * cost.parameters(48, 12)


def test_pruning_the_lookup_layer_never_beats_the_truth(monkeypatch):
    monkeypatch.setattr(prune_lookup, "TEST_SIZE", 200)  # it holds for examples of any number
    found = prune_lookup.prune_lookup(30, seeds=[0])["per_seed"]
    for n in range(9):
        guesses = [found[f"{way} {n}"][0] for way in ("leave one out", "greedy", "gradient", "random")]
        assert max(guesses) <= found[f"best {n}"][0]
    for n in (0, 8):
        assert len({found[f"{way} {n}"][0] for way in ("best", "leave one out", "greedy", "random")}) == 1
    assert found["greedy 7"] == found["leave one out 7"]


def test_the_lookup_layers_heads_are_ranked_on_other_examples_than_judge_them():
    task = prune_lookup.Lookup()
    layer = prune_lookup.MultiHeadAttention(task.d_model, 8).double()
    rank, judge = (task.draw(stream(seed), 64) for seed in (1, 2))
    found = prune_lookup._ways_to_prune(layer, task, rank, judge)

    def accuracy(batch, kept):
        gates = [torch.tensor([float(head in kept) for head in range(8)], dtype=torch.float64)]
        inputs, target = batch
        return task.score(functional_call(layer, heads.gated(layer, gates), inputs), target)["accuracy"]

    kept = set(range(8))
    missed_most_first = sorted(kept, key=lambda head: accuracy(rank, kept - {head}))
    for n in range(8, 0, -1):
        assert found[f"greedy {n}"] == pytest.approx(accuracy(judge, kept))
        assert found[f"leave one out {n}"] == pytest.approx(accuracy(judge, missed_most_first[:n]))
        kept = kept - {max(sorted(kept), key=lambda head: accuracy(rank, kept - {head}))}
