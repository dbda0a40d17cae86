"""Packs MiniLM for the head explorer: the page's script loads it in pieces, over http and from the disk.

A browser lets a page that was opened from the disk load scripts, but fetch no data. So each piece is a script
that calls ``explorerPiece(name, data)``, and the numbers stand in a string of it. Written in UTF-16, such a
string takes no more room than the numbers: two of 8 bits to a character where little is lost (the large
matrices), one of 15 bits where more would be (all else).
"""

import argparse
import copy
import json
from pathlib import Path

import numpy as np
import torch

from manyheads.bert import Bert, load_minilm
from manyheads.results import load

GROUP = 64  # weights that share a scale
LARGEST = 125  # 251 × 251 pairs are as many as characters of UTF-16 can tell apart; -127 to 127 are too many
FINEST = 2**14 - 1  # the largest number of 15 bits with its sign
LOWEST = 0x80  # from this character on none needs a backslash
SURROGATES, N_SURROGATES = 0xD800, 0x800  # halves of pairs, which are no characters
MAX_TOKENS = 64  # more would be too small to see
SHARD = 256  # words whose vectors come in one piece
FIRST = "The cat that was sitting on the mat looked happy."
NEIGHBOURS = (
    "The kitten on the rug seemed content.",
    "A dog was sleeping in front of the door.",
    "The mat was wet after the rain.",
    "The woman who was standing at the window smiled.",
    "He looked sad because his pet had died.",
    "The children were playing happily in the garden.",
    "The keys to the old car are on the table.",
    "She parked her bicycle beside the station.",
    "The bank raised its interest rates again.",
    "Heavy rain closed the roads in the north.",
    "The minister answered questions in parliament.",
    "Attention is a weighted average of values.",
)

# --- Numbers as text --------------------------------------------------------------------------------


def quantise(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round weights to whole numbers from -125 to 125, with one scale for each 64 of a row.

    Parameters
    ----------
    matrix : array of shape (row, column)

    Returns
    -------
    steps : int array of shape (row, column)
    scales : array of shape (row, group)
        ``steps * scales`` is what is left of the weights, off by half a scale at most.

    Raises
    ------
    ValueError
        If the columns don't fill whole groups.

    Source: Dettmers et al. 2022 (quantisation by blocks).
    """
    rows, columns = matrix.shape
    if columns % GROUP:
        raise ValueError(f"rows are cut into groups of {GROUP}, got {columns} columns: fill up with zeros")
    groups = matrix.reshape(rows, -1, GROUP)
    scales = np.abs(groups).max(-1) / LARGEST
    steps = np.rint(groups / np.where(scales == 0, 1, scales)[..., None])
    return steps.astype(np.int8).reshape(rows, columns), scales


def coarse(matrix: np.ndarray) -> dict:
    """Write a matrix in 8 bits a number.

    Parameters
    ----------
    matrix : array of shape (row, column)

    Returns
    -------
    dict
        Of plain numbers and strings.
    """
    steps, scales = quantise(matrix)
    pairs = steps.reshape(-1, 2).astype(int) + LARGEST
    return {"steps": _characters(pairs @ [2 * LARGEST + 1, 1]), "scales": fine(scales)}


def fine(numbers: np.ndarray) -> dict:
    """Write numbers in 15 bits each, as multiples of one unit.

    Parameters
    ----------
    numbers : array

    Returns
    -------
    dict
        Of plain numbers and strings.
    """
    unit = float(np.abs(numbers).max()) / FINEST or 1.0
    return {"unit": unit, "numbers": _characters(np.rint(numbers / unit).astype(int).ravel() + FINEST)}


def read(written: dict) -> np.ndarray:
    """Read what :func:`coarse` or :func:`fine` wrote, as the page's script does.

    Parameters
    ----------
    written : dict

    Returns
    -------
    array of shape (number,)
    """
    if "unit" in written:
        return (_codes(written["numbers"]) - FINEST) * written["unit"]
    steps = np.stack(np.divmod(_codes(written["steps"]), 2 * LARGEST + 1), axis=1) - LARGEST
    return (steps.reshape(-1, GROUP) * read(written["scales"])[:, None]).ravel()


def _characters(codes: np.ndarray) -> str:
    """Give each code a character: one that needs no backslash, and no half of a pair."""
    codes = codes + LOWEST
    codes = np.where(codes < SURROGATES, codes, codes + N_SURROGATES)
    return codes.astype("<u2").tobytes().decode("utf-16-le")


def _codes(characters: str) -> np.ndarray:
    codes = np.frombuffer(characters.encode("utf-16-le"), "<u2").astype(int)
    return np.where(codes < SURROGATES, codes, codes - N_SURROGATES) - LOWEST


# --- The model in pieces ----------------------------------------------------------------------------


def written(name: str, tensor: torch.Tensor) -> dict:
    """Write one tensor of the model: coarsely where it is a matrix that multiplies, or some rows of words.

    Parameters
    ----------
    name : str
        Its name in the model's ``state_dict``.
    tensor : Tensor

    Returns
    -------
    dict
        As from :func:`coarse` or :func:`fine`.
    """
    numbers = tensor.double().numpy()
    if name == "position.weight":
        return fine(numbers[:MAX_TOKENS])
    return coarse(numbers) if numbers.ndim == 2 else fine(numbers)


def as_packed(model: Bert) -> Bert:
    """Give the model that the page's script computes with, to measure what the rounding did to it.

    Parameters
    ----------
    model : Bert

    Returns
    -------
    Bert
        A copy with rounded weights, for at most ``MAX_TOKENS`` tokens.
    """
    rounded = copy.deepcopy(model)
    for name, tensor in rounded.state_dict().items():
        for part in tensor.split(SHARD) if name == "word.weight" else [tensor]:
            numbers = torch.from_numpy(read(written(name, part))).to(tensor)
            part.view(-1)[: numbers.numel()] = numbers
    return rounded


def best_heads() -> list[int]:
    """Name the one head of each layer that chapter 8 keeps last, when it ranks heads by gradient.

    Returns
    -------
    list of int
    """
    importance = load("prune-rankings")["settings"]["gradient"]["importance"]
    return np.argmax(importance, axis=1).tolist()


def pack(model: Bert, folder: Path) -> int:
    """Write the pieces that the page loads.

    Parameters
    ----------
    model : Bert
        MiniLM, or another of its shape.
    folder : Path
        Is made if it isn't there.

    Returns
    -------
    int
        How many bytes the first picture takes: all pieces but the words that ``FIRST`` doesn't need.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = dict(model.state_dict())
    words = state.pop("word.weight")
    large = {name for name, tensor in state.items() if tensor.numel() > 100_000 and name != "position.weight"}
    pieces = {name: {name: written(name, state[name])} for name in sorted(large)}
    pieces["rest"] = {name: written(name, state[name]) for name in sorted(state.keys() - large)}
    n_first = sum(_write(folder, name, piece) for name, piece in pieces.items())

    needed = {word // SHARD for word in model.tokenize([FIRST])[0][0].tolist()}
    for shard, rows in enumerate(words.split(SHARD)):
        size = _write(folder, f"words-{shard}", {f"words-{shard}": written("word.weight", rows)})
        n_first += size * (shard in needed)

    ids = model.tokenizer.get_vocab()
    vocabulary = sorted(ids, key=ids.__getitem__)
    layers = [block.attention for block in model.stack.blocks]
    about = {
        "layers": len(layers),
        "heads": layers[0].n_heads,
        "width": words.shape[1],
        "epsilon": model.norm.eps,
        "maxLetters": model.tokenizer.model.max_input_chars_per_word,
        "maxTokens": MAX_TOKENS,
        "shard": SHARD,
        "encoding": {
            "group": GROUP,
            "largest": LARGEST,
            "finest": FINEST,
            "lowest": LOWEST,
            "surrogates": SURROGATES,
            "nSurrogates": N_SURROGATES,
        },
        "pieces": {name: (folder / f"{name}.js").stat().st_size for name in pieces},
        "kinds": load("bert-census")["settings"]["400 sentences"]["kind"],
        "sentences": NEIGHBOURS,
        "vectors": fine(model.sentence_vectors(NEIGHBOURS).double().numpy()),
    }
    return n_first + _write(folder, "vocabulary", vocabulary, "utf-8") + _write(folder, "about", about)


def _write(folder: Path, name: str, data: object, encoding: str = "utf-16") -> int:
    """Write a piece, and say how many bytes it takes. The mark at the start of UTF-16 outranks any header."""
    text = json.dumps(data, ensure_ascii=encoding == "utf-8", separators=(",", ":"))
    return (folder / f"{name}.js").write_bytes(
        f"explorerPiece({json.dumps(name)},{text});\n".encode(encoding)
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m manyheads.explorer", description="Packs MiniLM for the page with the head explorer."
    )
    parser.add_argument("folder", type=Path)
    n_bytes = pack(load_minilm(), parser.parse_args().folder)
    print(f"The first picture takes {n_bytes / 1e6:.1f} MB.")
