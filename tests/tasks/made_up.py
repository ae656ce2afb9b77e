"""A tiny encoder and made-up rated texts, of the same form as the real ones."""

import csv
import gzip
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.pre_tokenizers import ByteLevel
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from avil_fast.tasks.prepare.sentiment import INNER, MEMBERS

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD, BAD = ["good", "fine", "great", "lovely"], ["bad", "awful", "poor", "dull"]
NEUTRAL = [f"w{i}" for i in range(40)]
WORDS = [*SPECIAL, *GOOD, *BAD, *NEUTRAL]
SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def encoder(folder: Path, **changes: Any) -> Path:
    """A BERT of two layers and its WordPiece tokenizer, saved as transformers saves them."""
    config = BertConfig(**({"vocab_size": len(WORDS), "max_position_embeddings": 24} | SIZE | changes))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    pieces = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", WORDS.index("[CLS]")), ("[SEP]", WORDS.index("[SEP]"))]
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    ).save_pretrained(folder)
    return folder


def ratings(domain: str, count: int, seed: int = 0) -> bytes:
    """A file of a domain: the sign of a rating shows in one word; products and news have ids in groups."""
    draw = random.Random(f"{domain}/{seed}")
    lines = []
    for i in range(count):
        positive = draw.random() < 0.5
        words = [*draw.choices(NEUTRAL, k=draw.randint(2, 8)), draw.choice(GOOD if positive else BAD)]
        rating = draw.uniform(0.6, 3.9) * (1 if positive else -1)
        id_ = f"{i // 5 + 1}_{i % 5 + 1}" if domain in ("products", "news") else str(i + 1)
        lines.append(f"{id_}\t{rating}\t{' '.join(words)}")
    return "\n".join(lines).encode()


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Texts and labels: a label shows in one word. No text occurs twice."""
    draw = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < count:
        label = draw.choice(["good", "bad"])
        words = [*draw.choices(NEUTRAL, k=draw.randint(3, 8)), draw.choice(GOOD if label == "good" else BAD)]
        found.setdefault(" ".join(words), label)
    return [{"text": text, "label": label} for text, label in found.items()]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A csv or jsonl file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def task(folder: Path, train: int = 60, dev: int = 20, test: int = 20, seed: int = 0) -> Path:
    """A folder with train.csv, dev.csv and test.csv."""
    left = rows(train + dev + test, seed)
    for name, size in (("train", train), ("dev", dev), ("test", test)):
        write(folder / f"{name}.csv", left[:size])
        left = left[size:]
    return folder


def causal_lm(folder: Path, **changes: Any) -> Path:
    """A Llama of two layers and a tokenizer of bytes."""
    pieces = Tokenizer(models.BPE({c: i for i, c in enumerate(["<end>", *sorted(ByteLevel.alphabet())])}, []))
    pieces.pre_tokenizer = ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="<end>").save_pretrained(folder)
    config = LlamaConfig(
        **(
            {
                "vocab_size": 257,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "max_position_embeddings": 128,
                "tie_word_embeddings": True,
                "bos_token_id": None,
                "eos_token_id": 0,
            }
            | changes
        )
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def archive(members: dict[str, bytes]) -> bytes:
    """A gzipped tar archive of plain files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue())


def package(files: dict[str, bytes] | None = None) -> bytes:
    """The source package with its nested archive; lines end as they do in the real one."""
    texts = {domain: ratings(domain, 10).replace(b"\n", b"\r\n") for domain in MEMBERS} | (files or {})
    inner = archive({f"hutto_ICWSM_2014/{MEMBERS[domain]}": text for domain, text in texts.items()})
    return archive({"vaderSentiment-3.3.2/setup.py": b"", f"vaderSentiment-3.3.2/{INNER}": inner})


def models_and_tasks(root: Path) -> Path:
    """A folder with the models `encoder` and `lm` and the tasks `news` and `tweets`."""
    encoder(root / "encoder")
    causal_lm(root / "lm")
    for seed, name in enumerate(("news", "tweets")):
        task(root / name, seed=seed)
    return root
