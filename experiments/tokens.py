"""An episode as the page shows it (report.py): its turns, token by token.

An episode becomes parts, one for each stretch of equal mask, in the order in which the model saw them:

    given    the question                            text, never trained; frame: what the chat template puts
    own      what the policy wrote                   pieces: the text of each token; nats: -log p of each, in
                                                     hundredths
    given    what its program printed                text, frame
    own      ...
"""
import math
from collections.abc import Callable
from pathlib import Path

from runs import preset


def rounded(value, digits: int = 4) -> float | None:
    """To significant digits; None for what JSON cannot say (NaN, infinity) or what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")


class Pieces:
    """The text of each token. Put together, the pieces are the decoded text."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.known: dict[tuple, str] = {}
        self.special = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special]
        # Some tokenizers drop a space at the start of a text, so each token is decoded behind another one.
        self.anchor = tokenizer("a", add_special_tokens=False)["input_ids"][-1:]
        self.before = len(self.decode(self.anchor))

    def decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def text(self, ids: list[int]) -> str:
        """Of some tokens that stand together."""
        key = tuple(ids)
        if key not in self.known:
            self.known[key] = self.decode(self.anchor + ids)[self.before:] or f"\u27e8{ids[0]}\u27e9"
        return self.known[key]

    def __call__(self, ids: list[int]) -> list[str]:
        """A character of several tokens is shown at the last of them; the ones before it are ''."""
        pieces, open_ids = [], []
        for token in ids:
            open_ids.append(token)
            text = self.text(open_ids)
            if text.endswith("\ufffd") and len(open_ids) < 4 and len(pieces) + 1 < len(ids):
                pieces.append("")
                continue
            pieces.append(text)
            open_ids = []
        return pieces


def find_tokenizer(folder: Path, config: dict):
    """The tokenizer of a run, or None: beside its policy or its warm start's, or the one it was made with."""
    import models
    model = str(config.get("model", ""))
    name = config.get("sft_run")
    warm_starts = [Path(name), folder.parent / Path(name).name] if name else []  # moved together, perhaps
    try:
        for place in (folder, *warm_starts):
            for saved in (place / "model", place / "adapter"):
                if (saved / "tokenizer_config.json").is_file():
                    return models.load_tokenizer(str(saved))
        hub = preset(model)["hub"]
        if hub is None or config.get("random_weights"):
            return models.tiny_tokenizer()
        return models.load_tokenizer(hub)  # a folder, or in the hub's cache
    except Exception:  # noqa: BLE001  (whatever transformers raises: the page does without)
        return None


def trained_tokens(record: dict, config: dict) -> list[int]:
    """What grpo.py trained: the policy's own tokens; nothing of an episode whose advantage is 0."""
    from batches import training_mask
    mask = record["mask"]
    if 1 not in mask or record.get("advantage") == 0:
        return [0] * len(mask)
    return training_mask(mask, config.get("train_on_code_output", False))


def parts_of_tokens(record: dict, config: dict, pieces: Pieces) -> list[dict]:
    """The parts of an episode (see above), cut where the mask changes."""
    ids, mask, trained = record["ids"], record["mask"], trained_tokens(record, config)
    outputs = iter(turn for turn in record.get("turns", []) if turn["output"] is not None)
    said = iter(message["content"] for message in record["messages"] if message["role"] == "user")
    edges = [0] + [t for t in range(1, len(mask)) if mask[t] != mask[t - 1]] + [len(mask)]
    parts = []
    for start, end in zip(edges, edges[1:]):
        part = {"own": mask[start], "trained": trained[start], "tokens": end - start}
        if mask[start]:
            part["pieces"] = pieces(ids[start:end])
            if "logprobs" in record:
                part["nats"] = [round(100 * -max(-99.0, min(0.0, p))) for p in record["logprobs"][start:end]]
        else:
            raw, text = pieces.decode(ids[start:end]), next(said, "")
            before, found, after = raw.rpartition(text) if text else ("", "", raw)
            part |= {"text": text, "frame": [before, after]} if found else {"text": raw}
            result = next(outputs, None) if start else None
            part |= {"status": result["status"]} if result else {}
        parts.append(part)
    # An output that no longer fitted into the episode, so the policy has not read it.
    return parts + [{"own": 0, "trained": 0, "text": turn["output"],
                     "status": f"{turn['status']}, not read any more"} for turn in outputs]


def parts_of_messages(record: dict) -> list[dict]:
    """The parts without a tokenizer: whole turns, as text."""
    parts = [(message["role"] == "assistant", message) for message in record["messages"]]
    return [{"own": int(own), "trained": int(own and message.get("learn", True)), "text": message["content"]}
            for own, message in parts]


def shown_episode(record: dict, config: dict, pieces: Pieces | None) -> dict:
    """A line of episodes.jsonl (or data.jsonl: no tokens yet, no stop) as the page wants it."""
    turns = record.get("turns")
    if turns is not None:
        calls = sum(turn["status"] is not None for turn in turns)
    else:
        calls = sum(message["role"] == "user" for message in record["messages"][2:])
    whole = pieces and "ids" in record
    return {"step": record.get("step"), "task": str(record["task"]), "level": record.get("level"),
            "seed": record.get("seed"),
            "right": record.get("correct"), "reward": rounded(record.get("reward")),
            "answer": record.get("answer"), "advantage": rounded(record.get("advantage")),
            "stop": record.get("stop") or f"example: {record.get('kind')}", "calls": calls,
            "parts": parts_of_tokens(record, config, pieces) if whole else parts_of_messages(record)}


def encoder(pieces: Pieces | None, config: dict) -> Callable[[dict], dict] | None:
    """Adds tokens and mask to a conversation of SFT, as sft.py encodes it; None where there are no tokens."""
    if not pieces or "algorithm" in config:
        return None
    from chat import Chat
    from trajectories import encode
    chat = Chat(pieces.tokenizer, config["mode"], config["style"], config["answer_format"])
    return lambda record: {**record, **dict(zip(("ids", "mask"), encode(chat, record["messages"])))}


def pieces_for(folder: Path, config: dict, records: list[dict], tokenizer, notes: list[str]) -> Pieces | None:
    """The texts of the run's tokens, if its tokenizer is found; else a note."""
    tokenizer = tokenizer or find_tokenizer(folder, config)
    why = "there is no tokenizer in this folder (it is saved with the policy)"
    if tokenizer:
        turn = next((turn for record in records for turn in record.get("turns", [])), None)
        if turn is None:
            return Pieces(tokenizer)
        ids = next(record["ids"] for record in records if record.get("turns"))
        if tokenizer.decode(ids[turn["start"]:turn["end"]], skip_special_tokens=True) == turn["text"]:
            return Pieces(tokenizer)
        why = "the tokenizer that was found is not the one of these episodes"
    notes.append(f"{folder}: turns are shown without their tokens: {why}.")
    return None
