"""The tiny model's tokenizer: byte-level BPE with ChatML markers, about 1,400 tokens.

Copying from the question into the program is what so small a model learns last. So what is copied comes in
few pieces that look the same everywhere: numbers two digits at a time, letters alone, and the words and names
that questions draw as one token each, with the space before them a token of its own.
"""
from collections.abc import Iterable

from chat import MODES, RESULTS, head_prompt
from task_families.kit import BOYS, GIRLS, WORDS
from tasks import select
from trajectories import WORDINGS, block

TEMPLATE = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}"
            "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")


def make_tokenizer(texts: Iterable[str]):
    """A tokenizer whose merges are learned from these texts."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    pieces = r"[0-9]{1,2}| ?[A-Za-z]{2,}|[A-Za-z]| ?[^\sA-Za-z0-9]+|\n *| +"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pieces), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    words = [AddedToken(word, single_word=True, normalized=False) for word in (*WORDS, *GIRLS, *BOYS)]
    tokenizer.add_tokens(words)  # before training, so that no merge is spent on them
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=1200, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_tokens(words)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=TEMPLATE,
        additional_special_tokens=["<|im_start|>"], clean_up_tokenization_spaces=False)


def tiny_tokenizer():
    """The tokenizer of the tiny model, made from questions, programs and wordings of the tiny tasks."""
    fixed = [head_prompt(mode, "short") for mode in MODES]
    fixed += [text for texts in WORDINGS.values() for text in texts]
    fixed += ["system\n", "user\n", "assistant\n", RESULTS, "<<<", ">>>", "True"]
    texts = [*fixed, "Traceback (most recent call last):"] * 50
    for question in (task.question(seed, 1) for task in select("tiny") for seed in range(150)):
        texts += [question.prompt, block(question.data["program"]), question.data["reasoning"] or "",
                  question.data["recheck"] or ""]
    return make_tokenizer(texts)
