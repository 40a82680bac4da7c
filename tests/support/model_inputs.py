"""What models see: small tokenizers of the real families, random tasks and responses, and the oracle AutoTokenizer."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers

from making import WORDS
from scoremux_engine.bank.residents import Version
from scoremux_engine.model.buckets import SizeClass
from scoremux_engine.model.inputs import Rendered
from scoremux_engine.model.tokens import Tokenizer
from scoremux_engine.packages.task import Task

MAX_TOKENS = 128
TOKENIZERS = (
    "BertTokenizer", "DistilBertTokenizer", "MPNetTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer",
    "AlbertTokenizer", "DebertaV2Tokenizer", "XLNetTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer", "LlamaTokenizer",
    "GemmaTokenizer",
)  # fmt: skip
"""transformers' classes: WordPiece, byte-level BPE, Unigram, and BPE that falls back to bytes."""

_ODD = (
    "{question}", "{response}", "{{id}}", "{", "}", "{}", "[SEP]", "[CLS]", "[MASK]", "</s>", "<s>", "<pad>", "<bos>",
    "<|endoftext|>", "\0", "a\0b", "🙂", "👩\u200d👩\u200d👧", "e\u0301", "ﬁ", "\u200f", "  ", "\n\n", "\t", " \n ",
    "x" * 130, "…", "漢字", "\x7f", "straße", "İ", "\ufeff", "1,234.50", "it's", "▁", "Ġ", "##s",
)  # fmt: skip
QUESTIONS = ("Why does {x} heat?", "Warum [SEP]?", "the router hands out addresses to hosts\non the network </s> 🙂")
INPUTS: tuple[dict[str, str] | None, ...] = (
    None,
    {"first": "{question}", "second": "{response}"},
    {"first": "{response}", "second": "{question}"},
    {"first": "{question} {rubric}", "second": "Answer: {response}"},
    {"first": "{question}", "second": "{response}\n\nend."},
    {"first": "Answer:{response} [SEP]", "second": "{question}"},
    {"template": "Question: {question}\nAnswer: {response}\nScore:"},
    {"template": "{question} {response}"},
    {"template": "{{response}} {rubric}{response}{question} </s>"},
    {"template": "{response}"},
)


@dataclass
class Checked:
    """How many cases were compared, how many of them were cut, and those whose tokens differ.

    split: how many begin with their task's prefix, and were compared as the prefix and the rest.
    """

    cases: int = 0
    cut: int = 0
    split: int = 0
    different: list[str] = field(default_factory=list)


def make_tokenizer(name: str, folder: Path) -> Path:
    """Save a tokenizer of the family, trained on a few words, as its models have it."""
    draw = random.Random(4)
    texts = [" ".join(draw.choices([*WORDS, "🙂", "it's", "25 °C.", "{x}", "\n"], k=12)) for _ in range(300)]
    getattr(transformers, name)().train_new_from_iterator(texts, 400).save_pretrained(folder)
    return folder


def draw_task(draw: random.Random) -> Task:
    """Return a task with some input; what is around the response leaves room for half of MAX_TOKENS at least."""
    texts = {"question": draw.choice(QUESTIONS), "rubric": draw.choice(("2 = right", "{response}", "İ🙂"))}
    return Task(id="t", levels=(0, 1), **texts, input=draw.choice(INPUTS))


def draw_response(draw: random.Random) -> str:
    """Return a response of up to three times MAX_TOKENS, odd ones among them."""
    pieces = draw.choices(
        [*WORDS, *_ODD], weights=[2] * len(WORDS) + [1] * len(_ODD), k=round(300 ** draw.random()) - 1
    )
    return "".join(piece + draw.choice((" ", " ", "")) for piece in pieces)


def compare_with_transformers(source: Path, count: int, draw: random.Random) -> Checked:
    """Tokenise random cases as the engine does, in batches, and as AutoTokenizer does, one by one."""
    auto = transformers.AutoTokenizer.from_pretrained(source)
    own, checked = Tokenizer.of(auto.backend_tokenizer, MAX_TOKENS), Checked(cases=count)
    while count:
        tasks = [draw_task(draw) for _ in range(min(count, 50))]
        batch = [task.render(draw_response(draw)) for task in tasks]
        count -= len(batch)
        for task, given, tokens in zip(tasks, batch, own.encode(batch), strict=True):
            expected = tokens_of_transformers(auto, given)
            checked.cut += tokens.truncated
            version = Version(task, "", SizeClass(1, 1), 2, prefix=own.prefix(task.render))
            before = version.prefix_tokens(tokens.ids, pad_id=-1)
            checked.split += before > 0
            ids = [*version.prefix[:before], *tokens.after(before).ids]
            same = ids == expected["input_ids"] and tokens.types == expected.get("token_type_ids", tokens.types)
            if not same or tokens.truncated != expected["cut"]:
                checked.different.append(f"{source.name}: {given!r}")
    return checked


def tokens_of_transformers(auto: Any, given: str | Rendered) -> dict[str, Any]:
    """Return AutoTokenizer's `input_ids` and, where it has them, `token_type_ids`; `cut`: whether there are more.

    The response ends its text: the same text or pair with `truncation` of that text alone. It does not: the whole,
    from which the last token within the response is removed until it fits.
    """
    texts, side, end = ((given,), 0, len(given)) if isinstance(given, str) else (given.texts, given.side, given.end)
    batch = [[text] for text in texts]  # a lone pair whose second text is empty would be no pair
    whole = auto(*batch, return_offsets_mapping=True)
    cut = len(whole["input_ids"][0]) > MAX_TOKENS
    if end == len(texts[side]):
        strategy = ("only_first", "only_second")[side] if len(texts) == 2 else True
        fitted = auto(*batch, truncation=strategy, max_length=MAX_TOKENS)
        return {"cut": cut, **{name: rows[0] for name, rows in fitted.items()}}
    kept = list(range(len(whole["input_ids"][0])))
    sequences, offsets = whole.sequence_ids(0), whole.pop("offset_mapping")[0]
    while len(kept) > MAX_TOKENS:
        kept.remove(max(i for i in kept if sequences[i] == side and offsets[i][1] <= end))
    return {"cut": cut, **{name: [rows[0][i] for i in kept] for name, rows in whole.items()}}
