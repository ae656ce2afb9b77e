"""Token ids: what is cut, what is learned, what is packed, and what is shown before."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st

from avil_fast.errors import AvilError
from avil_fast.tasks.text.completions import IGNORED, Completions
from avil_fast.tasks.text.demonstrations import Demonstrated
from avil_fast.tasks.text.examples import Examples
from avil_fast.tasks.text.labelled_texts import Texts
from avil_fast.tasks.text.packing import Packed, pack, pad_packed
from avil_fast.tasks.text.tables import SourceTable
from tests.tasks import made_up

CLS, SEP = (made_up.WORDS.index(word) for word in ("[CLS]", "[SEP]"))


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer of words with [CLS] and [SEP]."""
    return transformers.AutoTokenizer.from_pretrained(made_up.encoder(tmp_path_factory.mktemp("words")))


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model and its tokenizer of bytes, with nothing before a text and <end>, 0, as the end."""
    folder = made_up.causal_lm(tmp_path_factory.mktemp("letters"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, pad_token="<end>")
    return transformers.AutoModelForCausalLM.from_pretrained(folder, use_cache=False).eval(), tokenizer


def examples(first: Sequence[str], second: Sequence[str] | None = None) -> Examples:
    table = SourceTable(datasets.Dataset.from_dict({"text": list(first)}), "rows")
    return Examples(table, range(len(first)), first, second, list(range(len(first))))


def test_texts_are_cut_at_the_end_and_not_padded(words: Any) -> None:
    found = Texts(examples(["good", "w1 w2 w3 w4"]), words, 4, "cut")
    assert (len(found), found.cut) == (2, 1)
    assert found[0]["input_ids"] == [CLS, made_up.WORDS.index("good"), SEP]
    assert found[1]["input_ids"] == [CLS, *(made_up.WORDS.index(w) for w in ("w1", "w2")), SEP]
    assert [found[i]["label"] for i in range(2)] == [0, 1]
    assert [found.length(i) for i in range(2)] == [3, 4]


def test_of_pairs_the_longer_text_is_cut(words: Any) -> None:
    found = Texts(examples(["w1 w2 w3 w4"], ["good"]), words, 6, "cut")
    ids = [CLS, *(made_up.WORDS.index(w) for w in ("w1", "w2")), SEP, made_up.WORDS.index("good"), SEP]
    assert found[0] == {"input_ids": ids, "token_type_ids": [0, 0, 0, 0, 1, 1], "label": 0}


def test_what_is_too_long_may_be_dropped_or_refused(words: Any) -> None:
    given_ = examples(["w1 w2 w3 w4", "good"])
    kept = Texts(given_, words, 4, "drop")
    assert (len(kept), kept[0]["label"], kept.examples.rows) == (1, 1, [1])
    with pytest.raises(AvilError, match="rows, row 1: the text has 6 tokens, but the model reads 4; raise"):
        Texts(given_, words, 4, "stop")
    with pytest.raises(AvilError, match="rows: every text has more than 4 tokens, and too_long is drop"):
        Texts(given_.take([0]), words, 4, "drop")


def test_the_completion_alone_is_learned_with_its_end(letters: Any) -> None:
    _, tokenizer = letters
    found = Completions(examples(["ab", ""], ["cd", "ef"]), tokenizer, 20, "cut")
    a = tokenizer("abcdef")["input_ids"]
    assert found[0] == {"input_ids": [*a[:4], 0], "labels": [IGNORED] * 2 + [*a[2:4], 0]}
    assert found[1] == {"input_ids": [*a[4:], 0], "labels": [*a[4:], 0]}
    assert found.weights == [3, 2]  # of a text without a prompt the first token follows nothing


def test_of_a_long_prompt_the_beginning_is_cut_and_a_long_text_makes_pieces(letters: Any) -> None:
    _, tokenizer = letters
    found = Completions(examples(["abcdef", "", "x"], ["gh", "abcdefghi", "abcdefghi"]), tokenizer, 4, "cut")
    text = [tokenizer.decode(found[i]["input_ids"]) for i in range(len(found))]
    assert text == ["fgh<end>", "abcd", "efgh", "i<end>", "xabc"]
    assert found.cut == 3
    assert found.examples.rows == [0, 1, 1, 1, 2]
    assert found.weights == [3, 3, 3, 1, 3]


def test_a_tokenizers_beginning_is_kept(letters: Any, tmp_path: Path) -> None:
    from tokenizers import processors

    _, tokenizer = letters
    tokenizer.save_pretrained(tmp_path)
    begins = transformers.AutoTokenizer.from_pretrained(tmp_path, bos_token="<end>")
    begins.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<end> $A", special_tokens=[("<end>", 0)]
    )
    found = Completions(examples(["abcdef", ""], ["gh", "i"]), begins, 5, "cut")
    assert [begins.decode(found[i]["input_ids"]) for i in range(2)] == ["<end>fgh<end>", "<end>i<end>"]
    assert found[1]["labels"] == [IGNORED, *found[1]["input_ids"][1:]]
    assert found.weights == [3, 2]


def pieces_of_words(**special: str) -> Any:
    """A tokenizer of the kind of Llama 2's: a space is part of the word after it, and a text begins with one."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = ["<s>", "</s>", "\u2581", *"abcdefgh:.<>/\n"]
    inner = Tokenizer(models.BPE({name: i for i, name in enumerate(names)}, []))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", **special)


def test_prompt_and_completion_are_read_as_one_text() -> None:
    tokenizer = pieces_of_words()
    found = Completions(examples(["ab:"], ["cd"]), tokenizer, 20, "cut")
    assert tokenizer.convert_ids_to_tokens(found[0]["input_ids"]) == ["\u2581", "a", "b", ":", "c", "d", "</s>"]
    learned = [label for label in found[0]["labels"] if label != IGNORED]
    assert tokenizer.convert_ids_to_tokens(learned) == ["c", "d", "</s>"]


def test_what_follows_the_end_of_a_text_is_not_learned() -> None:
    tokenizer = pieces_of_words()
    found = Completions(examples(["ab:"], ["cd</s>\n"]), tokenizer, 20, "cut")
    learned = [label for label in found[0]["labels"] if label != IGNORED]
    assert tokenizer.convert_ids_to_tokens(learned) == ["c", "d", "</s>"]


def test_demonstrations_begin_once() -> None:
    from tokenizers import processors

    tokenizer = pieces_of_words(bos_token="<s>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    plain = Completions(examples(["a:", "b:", "c:"], ["d", "e", "f"]), tokenizer, 40, "cut")
    item = Demonstrated(plain, plain, 2, [], 40, tokenizer.eos_token_id, seed=0)[0]
    tokens = tokenizer.convert_ids_to_tokens(item["input_ids"])
    assert (tokens[0], tokens.count("<s>"), tokens.count("</s>")) == ("<s>", 1, 1)
    assert len(item["labels"]) == len(tokens)
    assert [tokens[i] for i, label in enumerate(item["labels"]) if label != IGNORED] == ["d", "</s>"]


def test_nothing_to_predict_is_refused(letters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, tokenizer = letters
    monkeypatch.setattr(tokenizer, "eos_token", None)
    with pytest.raises(AvilError, match="no text has two tokens"):
        Completions(examples(["", ""], ["a", "b"]), tokenizer, 5, "cut")


def losses(model: Any, batch: Any) -> float:
    with torch.no_grad():
        return float(model(**batch).loss)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_packed_examples_do_not_see_each_other(letters: Any, attention: str) -> None:
    model, tokenizer = letters
    model.set_attn_implementation(attention)
    given_ = examples(["ab", "", "xyz", "k"], ["cd", "efg", "h", "lmn"])
    plain = Completions(given_, tokenizer, 12, "cut")
    packed = Packed(plain, 12)
    assert sorted(i for group in packed.groups for i in group) == [0, 1, 2, 3]
    assert len(packed) == 2
    assert sum(packed.weights) == sum(plain.weights)
    batch = pad_packed([packed[0], packed[1]], 0)
    assert set(batch) == {"input_ids", "labels", "position_ids"}
    one_by_one = [transformers.DataCollatorForSeq2Seq(tokenizer)([plain[i]]) for i in range(4)]
    mean = sum(w * losses(model, item) for w, item in zip(plain.weights, one_by_one, strict=True))
    assert losses(model, batch) == pytest.approx(mean / sum(plain.weights), rel=1e-5)


def test_weights_are_the_tokens_that_the_models_loss_averages(letters: Any) -> None:
    model, tokenizer = letters
    plain = Completions(examples(["ab", "", "x"], ["cd", "efghi", "j"]), tokenizer, 20, "cut")
    collate = transformers.DataCollatorForSeq2Seq(tokenizer)
    whole = losses(model, collate([plain[i] for i in range(3)]))
    parts = [losses(model, collate([plain[i]])) for i in range(3)]
    weighted = sum(w * part for w, part in zip(plain.weights, parts, strict=True)) / sum(plain.weights)
    assert whole == pytest.approx(weighted, rel=1e-5)


@given(st.lists(st.integers(1, 20), max_size=60), st.integers(20, 40))
def test_packing_uses_each_item_once_and_never_too_much(lengths: list[int], capacity: int) -> None:
    groups = pack(lengths, capacity)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    sizes = [sum(lengths[i] for i in group) for group in groups]
    assert all(size <= capacity for size in sizes)
    # No two groups fit into one.
    assert all(one + other > capacity for k, one in enumerate(sizes) for other in sizes[:k])


def demonstrated(letters: Any, count: int, max_length: int = 60, seed: int | None = None) -> Demonstrated:
    _, tokenizer = letters
    names = "abcdefgh"
    plain = Completions(examples(list(names), [name.upper() for name in names]), tokenizer, max_length, "cut")
    return Demonstrated(plain, plain, count, tokenizer("\n")["input_ids"], max_length, 0, seed)


def test_demonstrations_come_before_a_query_and_are_not_learned(letters: Any) -> None:
    _, tokenizer = letters
    found = demonstrated(letters, 3)
    seen = set()
    for index in range(8):
        torch.manual_seed(index)
        item = found[index]
        *shown, query = tokenizer.decode(item["input_ids"]).split("\n")
        own = "abcdefgh"[index]
        assert query == f"{own}{own.upper()}<end>"
        assert len(set(shown)) == 3
        assert all(text == f"{text[0]}{text[0].upper()}" and text[0] != own for text in shown)
        learned = [label for label in item["labels"] if label != IGNORED]
        assert tokenizer.decode(learned) == f"{own.upper()}<end>"
        assert len(learned) == found.weights[index]
        seen |= set(shown)
    assert len(seen) == 8


def test_demonstrations_are_drawn_anew_unless_they_are_for_evaluation(letters: Any) -> None:
    anew, fixed = demonstrated(letters, 2), demonstrated(letters, 2, seed=5)
    assert len({tuple(anew[0]["input_ids"]) for _ in range(20)}) > 5
    assert len({tuple(fixed[0]["input_ids"]) for _ in range(5)}) == 1
    assert fixed[0]["input_ids"] != fixed[1]["input_ids"]
    torch.manual_seed(0)
    before = torch.get_rng_state()
    fixed[0]
    assert torch.equal(torch.get_rng_state(), before)


def test_demonstrations_without_room_are_left_out_and_a_small_pool_is_used_up(letters: Any) -> None:
    _, tokenizer = letters
    assert tokenizer.decode(demonstrated(letters, 3, max_length=6)[0]["input_ids"]).count("\n") == 1
    assert tokenizer.decode(demonstrated(letters, 50, max_length=100)[0]["input_ids"]).count("\n") == 7
