"""Small tasks made from a seed, each with its chance level and with what theory expects of ``n_heads`` heads.

A task draws fresh examples, has a ``loss`` to train on and a ``score`` to report. Inputs are float64
vectors as wide as the attention layer, so that for three of the four tasks the layer itself is the whole
model.
"""

from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


def left_over(output: Tensor, target: Tensor) -> Tensor:
    """Say which share of the target's energy is missed: 0 is perfect, 1 is as good as answering zero.

    Parameters
    ----------
    output, target : Tensor of the same shape

    Returns
    -------
    Tensor of shape ()
        The mean square of the error over the mean square of the target, often called NMSE.
    """
    return (output - target).square().mean() / target.square().mean()


@dataclass(frozen=True)
class Staircase:
    """Copy the four previous vectors: the cleanest case in which heads can be counted.

    Tokens stand in a circle; each has six random numbers, its content. The scores see positions only and
    the values see content only, so every head copies at most one average of the contents.

    Theory: the layer is then a linear map of rank at most min(d_head, 6) a head, and copying four
    vectors is the identity on 24 numbers. By Eckart and Young (1936) a map of rank r leaves at least 1 -
    r/24 of it: .75, .5, .25 and 0 with one to four heads. This counts what the values carry, not where a
    head can look. Heads of width 2 or more can single out any token and come as near to it as one likes;
    heads of width 1 can't, so that with 24 of them it is a lower bound and no more.

    Attributes
    ----------
    ordinary : bool
        Let scores and values both see content *and* position, as in an ordinary layer. The theory then
        no longer holds: a pattern that hangs on the content carries a message of its own.
    n_tokens, d_content, n_copied : int
    """

    ordinary: bool = False
    n_tokens: int = 12
    d_content: int = 6
    n_copied: int = 4

    chance = 1.0  # of answering zero
    loss = staticmethod(left_over)

    @property
    def d_model(self) -> int:
        """Width of tokens and of the answer, the four vectors side by side."""
        return self.n_copied * self.d_content

    def theory(self, n_heads: int) -> float:
        """Give a share below which heads of width d_model / n_heads can't come: they carry no more numbers.

        Parameters
        ----------
        n_heads : int

        Returns
        -------
        float
        """
        rank = n_heads * min(self.d_model // n_heads, self.d_content)
        return max(0.0, 1 - rank / self.d_model)

    def draw(self, stream: Generator, size: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """Make query, key and value for ``MultiHeadAttention``, and the four vectors to copy.

        Parameters
        ----------
        stream : torch.Generator
        size : int
            Number of examples, the batch.

        Returns
        -------
        inputs : tuple of Tensor of shape (batch, token, d_model)
        target : Tensor of shape (batch, token, d_model)
            The contents 1, 2, 3 and 4 tokens back, side by side.
        """
        content = torch.randn(size, self.n_tokens, self.d_content, generator=stream, dtype=torch.float64)
        target = torch.cat([content.roll(back, 1) for back in range(1, self.n_copied + 1)], -1)
        unused = self.d_model - self.d_content - self.n_tokens
        place = torch.eye(self.n_tokens, dtype=torch.float64).expand(size, -1, -1)
        position = F.pad(place, (self.d_content, unused))  # (batch, token, d_model)
        content = F.pad(content, (0, self.d_model - self.d_content))  # (batch, token, d_model)
        return ((content + position,) if self.ordinary else (position, position, content)), target

    def score(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Say which share of the four vectors is missed."""
        return {"left_over": left_over(output, target)}


@dataclass(frozen=True)
class Lookup:
    """Look four values up at once: what several retrievals in one step need, and too many heads find hard.

    Eight pairs bind each of eight keys to a random value out of eight. The query names four of the keys,
    in four slots; the answer is the value of each. Output channels 0-7 are the scores of the first
    slot's answer, and so on.

    Theory: a head gives one average. Let it weigh m named keys alike; then the best that a read-out can
    do which treats all slots and values alike is to answer the commonest of the m values. :meth:`theory`
    deals the four keys to the heads in the best way. It is a simple scheme, not a bound: a read-out that
    adds and subtracts several averages, or a nonlinear one, can do better. A head
    of one number can point at two of the eight keys only; many of them together can still answer all.

    Attributes
    ----------
    n_pairs, n_named : int
    """

    n_pairs: int = 8
    n_named: int = 4

    @property
    def d_model(self) -> int:
        """Width of tokens and of the answer, a channel for each value in each slot."""
        return self.n_named * self.n_pairs

    @property
    def chance(self) -> float:
        """Accuracy of a guess among all values."""
        return 1 / self.n_pairs

    def theory(self, n_heads: int) -> float:
        """Give the accuracy of even averages, each answering with its commonest value.

        Parameters
        ----------
        n_heads : int

        Returns
        -------
        float
        """
        return max(
            sum(keys * self._commonest(keys) for keys in dealt) / self.n_named
            for dealt in product(range(self.n_named + 1), repeat=min(n_heads, self.n_named))
            if sum(dealt) == self.n_named
        )

    def _commonest(self, keys: int) -> float:
        """Give the mean share of the commonest among ``keys`` random values."""
        draws = list(product(range(self.n_pairs), repeat=keys))
        return sum(max(map(draw.count, draw)) / keys for draw in draws) / len(draws) if keys else 0.0

    def draw(self, stream: Generator, size: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """Make query and key for ``MultiHeadAttention``, and the values that are asked for.

        Parameters
        ----------
        stream : torch.Generator
        size : int
            Number of examples, the batch.

        Returns
        -------
        query : Tensor of shape (batch, 1, d_model)
            Four one-hot keys side by side.
        pairs : Tensor of shape (batch, pair, d_model)
            A one-hot key and a one-hot value side by side, then zeros. Pair i has key i: the order of the
            pairs means nothing to attention.
        target : int Tensor of shape (batch, slot)
            The value of each named key.
        """
        values = torch.randint(self.n_pairs, (size, self.n_pairs), generator=stream)
        named = torch.rand(size, self.n_pairs, generator=stream).argsort(-1)[:, : self.n_named]
        keys = torch.eye(self.n_pairs, dtype=torch.float64).expand(size, -1, -1)
        pairs = torch.cat([keys, F.one_hot(values, self.n_pairs)], -1)
        pairs = F.pad(pairs, (0, self.d_model - 2 * self.n_pairs))
        query = F.one_hot(named, self.n_pairs).flatten(1)[:, None].double()
        return (query, pairs), values.gather(1, named)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Give the cross-entropy of the right values, mean over slots."""
        return F.cross_entropy(self._by_slot(output).flatten(0, 1), target.flatten())

    def score(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Say which share of the named values is found."""
        return {"accuracy": (self._by_slot(output).argmax(-1) == target).double().mean()}

    def _by_slot(self, output: Tensor) -> Tensor:
        return output.squeeze(1).unflatten(-1, (self.n_named, self.n_pairs))  # (batch, slot, value)


@dataclass(frozen=True)
class Nearest:
    """Copy the nearest of eight vectors: the case in which one wide head beats many narrow ones.

    Query and vectors are random directions. All coordinates must be compared at once, by a matching of
    full rank.

    Theory: one head with W_Q = βI and the identity elsewhere weighs the vectors by softmax(β · cosine)
    and so comes as near as one likes with growing β. For heads of low rank there are bounds that grow with
    d_model; none is claimed here for 16.

    Attributes
    ----------
    n_vectors, d_model : int

    Source: Amsel, Yehudai & Bruna 2024.
    """

    n_vectors: int = 8
    d_model: int = 16

    chance = 1.0  # of answering zero
    loss = staticmethod(left_over)

    def draw(self, stream: Generator, size: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """Make query and key for ``MultiHeadAttention``, and the vector nearest to the query.

        Parameters
        ----------
        stream : torch.Generator
        size : int
            Number of examples, the batch.

        Returns
        -------
        query : Tensor of shape (batch, 1, d_model)
        vectors : Tensor of shape (batch, vector, d_model)
            All of length 1.
        target : Tensor of shape (batch, 1, d_model)
        """
        drawn = torch.randn(size, 1 + self.n_vectors, self.d_model, generator=stream, dtype=torch.float64)
        query, vectors = F.normalize(drawn, dim=-1).split([1, self.n_vectors], 1)
        nearest = (vectors @ query.mT).argmax(1, keepdim=True)  # (batch, 1, 1)
        return (query, vectors), vectors.take_along_dim(nearest, 1)

    def score(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Say which share of the nearest vector is missed."""
        return {"left_over": left_over(output, target)}


ADVERBS = ("today", "yesterday")
NOUNS = (("cat", "dog", "bird", "fox"), ("car", "bus", "train", "ship"))
VERBS = (("is", "are"), ("was", "were"))
ADJECTIVES = (("happy", "hungry"), ("broken", "rusty"))
WORDS = (
    *ADVERBS,
    *(word for words in VERBS for word in words),
    *(word for words in ADJECTIVES for word in words),
    *(
        noun + ending
        for nouns in NOUNS
        for noun in nouns
        for ending in ("", "es" if noun[-1] in "sx" else "s")
    ),
    "the",
    "near",
    "[MASK]",
)
ROLES = ("adverb", "the", "subject", "near", "the", "attractor", "verb", "adjective")


@dataclass(frozen=True)
class Sentences:
    """Fill the gap in "today the cats near the car [MASK] happy": several facts about one word.

    A sentence has the roles of ``ROLES``; its adverb stands first or last. Either the verb or the
    adjective is masked. The verb shows the tense of the adverb and the number of the subject; the
    adjective is one that fits the subject's class, an animal or a machine. A second noun, the attractor,
    lies nearer and agrees or doesn't; scores of number and class count only sentences in which it
    doesn't. Words are numbers: their places in ``WORDS``.
    """

    chance = 0.5  # of each of the three facts, by a model that knows which words fit the gap

    def draw(self, stream: Generator, size: int) -> tuple[tuple[Tensor], Tensor]:
        """Make sentences with a gap, and what the grammar says about each.

        Parameters
        ----------
        stream : torch.Generator
        size : int
            Number of sentences, the batch.

        Returns
        -------
        sentences : tuple of one int Tensor of shape (batch, word)
        facts : int Tensor of shape (batch, 5)
            The masked word; then tense, number and class, each -1 where the gap doesn't ask for it or
            where the attractor agrees; last whether the adverb stands first.
        """

        def choose(n: int) -> Tensor:
            return torch.randint(n, (size,), generator=stream)

        tense, number, kind, first, asks_verb = (choose(2) for _ in range(5))
        other_number, other_kind = choose(2), choose(2)
        verb = _word("is") + 2 * tense + number
        adjective = _word("happy") + 2 * kind + choose(2)
        subject, attractor = (
            _word("cat") + 8 * a_kind + 2 * choose(4) + a_number
            for a_kind, a_number in ((kind, number), (other_kind, other_number))
        )
        the, near, gap = (torch.full((size,), _word(word)) for word in ("the", "near", "[MASK]"))
        masked = torch.where(asks_verb == 1, verb, adjective)
        verb, adjective = torch.where(asks_verb == 1, gap, verb), torch.where(asks_verb == 1, adjective, gap)
        sentence = torch.stack([tense, the, subject, near, the, attractor, verb, adjective], -1)
        sentence = torch.where(first[:, None] == 1, sentence, sentence.roll(-1, 1))  # (batch, word)
        facts = [
            masked,
            torch.where(asks_verb == 1, tense, -1),
            torch.where((asks_verb == 1) & (number != other_number), number, -1),
            torch.where((asks_verb == 0) & (kind != other_kind), kind, -1),
            first,
        ]
        return (sentence,), torch.stack(facts, -1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Give the cross-entropy of the masked word."""
        return F.cross_entropy(output, target[:, 0])

    def score(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Say how often the likeliest word has the right tense, number and class.

        Parameters
        ----------
        output : Tensor of shape (batch, len(WORDS))
        target : int Tensor of shape (batch, 5)
            The facts.

        Returns
        -------
        dict of Tensor of shape ()
            ``tense``, ``number`` and ``class``, each a share of the sentences that ask for it.
        """
        word = output.argmax(-1)
        verb, adjective = word - _word("is"), word - _word("happy")
        nothing = torch.tensor(-2)
        said = {
            "tense": torch.where((verb >= 0) & (verb < 4), verb // 2, nothing),
            "number": torch.where((verb >= 0) & (verb < 4), verb % 2, nothing),
            "class": torch.where((adjective >= 0) & (adjective < 4), adjective // 2, nothing),
        }
        facts = dict(zip(said, target.T[1:4], strict=True))
        return {name: (said[name] == fact)[fact >= 0].double().mean() for name, fact in facts.items()}


def _word(word: str) -> int:
    return WORDS.index(word)


def in_words(sentence: Tensor) -> str:
    """Read a sentence out.

    Parameters
    ----------
    sentence : int Tensor of shape (word,)

    Returns
    -------
    str
    """
    return " ".join(WORDS[i] for i in sentence.tolist())
