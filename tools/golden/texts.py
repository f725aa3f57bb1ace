"""Text towers of CLIP and SigLIP with their tokenizers, whole as transformers saves them, and what it computes with them:

    python tools/golden/texts.py [FOLDER WITH A PUBLISHED MODEL…]

Vocabularies are learned here, from the sentences below. With folders of published models, their tokenizers are applied to the
same sentences, and the tokens are written beside the folders' names, for a comparison that is not committed.
"""

import io
import json
import random
import sys
from pathlib import Path

import sentencepiece
import torch
import transformers as hf
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from common import pixels, randomize, seeded

TEXTS = Path(__file__).resolve().parents[2] / "goldens" / "texts"

hf.utils.logging.set_verbosity_error()

FIXED = [
    "a photo of a cat", "A photo of a Dog.", "two cats, asleep on a sofa!", "it's the dog's bowl; we'll wash it", "",
    "  leading and   inner spaces\tand a tab\nand a line ", "3 apples and 12 pears cost $4.50", "UPPER lower MiXeD",
    "don't you've I'm they're he'd", "e-mail: someone@example.org (or http://example.org/a?b=c)", "naïve café — “quoted”…",
    "Ein schöner Vogel auf dem Ast", "Straße, GROSSE STRASSE", "Une maison près de la forêt", "El niño montó en bicicleta",
    "Собака бежит по снегу", "Кошка спит на диване", "一只猫在沙发上睡觉", "東京の夜景", "犬が走っている", "고양이가 자고 있다",
    "قطة نائمة على الأريكة", "חתול ישן על הספה", "แมวกำลังนอนหลับ", "बिल्ली सो रही है", "Η γάτα κοιμάται", "Կատուն քնած է",
    "emoji 🐱 and 👩‍🚀 and 🇨🇭", "ﬁne ligatures and ① ② ½ ™", "combining é e\u0301 Å A\u030a", "zero\u200bwidth and\u00a0no-break",
    "<|endoftext|> inside", "</s> inside", "▁ already there", "x" * 40, "a.b.c.d", "#tag @name 100% C++ & C#", "İstanbul ışık",
]
WORDS = {
    "en": "a the red small old photo of cat dog bird tree house on under near sea street with two and".split(),
    "de": "ein der rote kleine alte Bild von Katze Hund Vogel Baum Haus auf unter nahe Meer Straße mit zwei und".split(),
    "ru": "кошка собака птица дерево дом на под возле море улица с два и красный старый снимок".split(),
    "el": "γάτα σκύλος πουλί δέντρο σπίτι πάνω κάτω κοντά θάλασσα δρόμος με δύο και".split(),
    "zh": "猫 狗 鸟 树 房子 上 下 海 街道 和 红色 的 照片".split(),
    "ar": "قطة كلب طائر شجرة بيت على تحت قرب بحر شارع مع و أحمر".split(),
    "hi": "बिल्ली कुत्ता पक्षी पेड़ घर पर नीचे पास समुद्र सड़क और लाल".split(),
}


def sentences():
    """200 sentences in several scripts: those above, and words in a drawn order with some marks between them."""
    draw = random.Random(7)
    made = list(FIXED)
    while len(made) < 200:
        words = WORDS[draw.choice(sorted(WORDS))]
        chosen = [draw.choice(words) for _ in range(draw.randint(1, 9))]
        if draw.random() < 0.3:
            chosen[0] = chosen[0].capitalize()
        made.append(draw.choice([" ", " ", " ", ", ", "-", "  "]).join(chosen) + draw.choice(["", "", ".", "!", "?"]))
    return made


def clip_vocabulary(folder):
    """A byte-level BPE vocabulary as CLIP's, with its two files."""
    tokenizer = Tokenizer(models.BPE(continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=760, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False)
    tokenizer.train_from_iterator([text for text in sentences() if "▁" not in text], trainer)
    state = json.loads(tokenizer.to_str())["model"]
    # Every byte also ends words.
    tokens = dict.fromkeys(sorted(alphabet) + [byte + "</w>" for byte in sorted(alphabet)])
    merges = [pair if isinstance(pair, list) else pair.split(" ") for pair in state["merges"]]
    for pair in merges:
        tokens["".join(pair)] = None
    vocabulary = {token: index for index, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    return hf.CLIPTokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in merges], model_max_length=77), vocabulary


def siglip_vocabulary(folder):
    model = io.BytesIO()
    texts = [text.lower() for text in sentences() if text.strip()]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, vocab_size=420, model_type="unigram", character_coverage=0.98,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", minloglevel=2, num_threads=1, hard_vocab_limit=False,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(model.getvalue())
    return hf.SiglipTokenizer(str(folder / "spiece.model"), model_max_length=24)


def siglip2_vocabulary():
    """A BPE vocabulary with bytes for what it lacks, as Gemma's."""
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer = Tokenizer(models.BPE(fuse_unk=True, unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(vocab_size=620, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(sentences(), trainer)
    state = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in state["merges"]]
    return hf.Siglip2Tokenizer(vocab=state["vocab"], merges=merges, model_max_length=24)


TOWER = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40)
LABELS = ["a photo of a cat", "a photo of a dog", "東京の夜景", "Собака бежит по снегу"]


@torch.no_grad()
def save(name, model, tokenizer, processor, length):
    folder, generator = TEXTS / name, seeded(name)
    randomize(model, generator)
    model.logit_scale.fill_(2.25)
    if hasattr(model, "logit_bias"):
        model.logit_bias.fill_(-1.5)
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    padded = dict(padding="max_length", max_length=length) if length else dict(padding=True)
    texts = tokenizer(LABELS, return_tensors="pt", **padded)
    images = pixels(generator, 3, 3, 32, 32)
    # SigLIP was trained without a mask over texts.
    output = model(input_ids=texts["input_ids"], pixel_values=images,
                   **({} if length else dict(attention_mask=texts["attention_mask"])))
    logits = output.logits_per_image
    embedded = model.get_text_features(texts["input_ids"], **({} if length else dict(attention_mask=texts["attention_mask"])))
    embedded = getattr(embedded, "pooler_output", embedded)
    expected = {
        "pixel_values": images,
        "text_features": embedded,
        "logits": logits,
        "probabilities": logits.sigmoid() if length else logits.softmax(-1),
    }
    save_file({key: value.contiguous() for key, value in expected.items()}, folder / "expected.safetensors")
    (folder / "labels.json").write_text(json.dumps(LABELS, ensure_ascii=False))


def tokens(name, tokenizer, length):
    every = [tokenizer(text)["input_ids"] for text in sentences()]
    first = tokenizer(LABELS[0], **(dict(padding="max_length", max_length=length) if length else {}))["input_ids"]
    text = json.dumps({"sentences": sentences(), "tokens": every, "filled": first}, ensure_ascii=False, separators=(",", ":"))
    (TEXTS / name / "tokens.json").write_text(text)


def main():
    size = dict(image_size=32, patch_size=8)
    tokenizer, vocabulary = clip_vocabulary(TEXTS / "clip")
    text = TOWER | dict(vocab_size=len(vocabulary), max_position_embeddings=77, bos_token_id=len(vocabulary) - 2,
                        eos_token_id=len(vocabulary) - 1)
    config = hf.CLIPConfig(text_config=text, vision_config=TOWER | size, projection_dim=20)
    save("clip", hf.CLIPModel(config), tokenizer, hf.CLIPImageProcessor(size={"shortest_edge": 32},
         crop_size={"height": 32, "width": 32}), None)
    tokens("clip", tokenizer, None)

    tokenizer = siglip_vocabulary(TEXTS / "siglip")
    tokenizer.save_pretrained(TEXTS / "siglip")
    text = TOWER | dict(vocab_size=tokenizer.vocab_size, max_position_embeddings=24)
    config = hf.SiglipConfig(text_config=text, vision_config=TOWER | size)
    processor = hf.SiglipImageProcessor(size={"height": 32, "width": 32})
    save("siglip", hf.SiglipModel(config), tokenizer, processor, 24)
    tokens("siglip", tokenizer, 24)

    tokenizer = siglip2_vocabulary()
    tokenizer.save_pretrained(TEXTS / "siglip2")
    text = TOWER | dict(vocab_size=len(tokenizer), max_position_embeddings=24, projection_size=24)
    config = hf.SiglipConfig(text_config=text, vision_config=TOWER | size)
    save("siglip2", hf.SiglipModel(config), tokenizer, processor, 24)
    tokens("siglip2", tokenizer, 24)

    for folder in map(Path, sys.argv[1:]):
        tokenizer = hf.AutoTokenizer.from_pretrained(folder)
        every = [tokenizer(text)["input_ids"] for text in sentences()]
        (folder / "tokens.json").write_text(json.dumps({"sentences": sentences(), "tokens": every}, ensure_ascii=False))


if __name__ == "__main__":
    main()
