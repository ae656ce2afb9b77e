"""A tiny encoder and made-up rated texts, of the same form as the real ones."""

import gzip
import io
import random
import tarfile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from avil_fast.tasks.prepare_sentiment import INNER, MEMBERS

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD, BAD = ["good", "fine", "great", "lovely"], ["bad", "awful", "poor", "dull"]
NEUTRAL = [f"w{i}" for i in range(40)]
WORDS = [*SPECIAL, *GOOD, *BAD, *NEUTRAL]
SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def encoder(folder: Path, **changes: Any) -> Path:
    """A BERT of two layers and its WordPiece tokenizer, saved as transformers saves them."""
    config = BertConfig(**({"vocab_size": len(WORDS), "max_position_embeddings": 24} | SIZE | changes))
    BertModel(config).save_pretrained(folder)
    pieces = Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    pieces.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", WORDS.index("[CLS]")), ("[SEP]", WORDS.index("[SEP]"))]
    pieces.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    PreTrainedTokenizerFast(
        tokenizer_object=pieces, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
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


def folder(path: Path, count: int = 150) -> Path:
    """The four files."""
    path.mkdir(parents=True)
    for domain in MEMBERS:
        (path / f"{domain}.tsv").write_bytes(ratings(domain, count))
    return path


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
