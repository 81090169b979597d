"""Loading, saving, presets."""
import json

import pytest
import torch
from conftest import build, watched
from peft import LoraConfig, get_peft_model

import evaluate
import models
import sft
from batches import Trainer, trained_parameters
from models import load, save, score
from runs import PRESETS, UserError, parse_levels, preset, run_name


def test_a_saved_policy_comes_back_token_for_token(tmp_path, tokenizer, conversations):
    """AutoTokenizer would swap the pre-tokenizer for Qwen's, and every number would be read differently."""
    policy, _ = load("tiny", dtype="float32")
    save(policy, tokenizer, tmp_path)
    again, loaded = load("tiny", checkpoint_folder=tmp_path, dtype="float32")
    for record in conversations:
        text = "".join(message["content"] for message in record["messages"])
        assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
        assert loaded.decode(loaded(text)["input_ids"]) == text
    assert loaded.chat_template == tokenizer.chat_template and loaded.eos_token_id == tokenizer.eos_token_id
    ids, mask = torch.arange(5, 30)[None], torch.ones(1, 25)
    with torch.no_grad():
        assert torch.equal(score(policy, ids, mask)[0], score(again, ids, mask)[0])
    save(again, loaded, tmp_path)  # over an existing one
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_words_look_the_same_with_and_without_a_space(tokenizer):
    word, number = (tokenizer(text)["input_ids"] for text in ("strawberry", "45"))
    assert len(word) == 1 and len(number) == 1
    assert tokenizer(" strawberry")["input_ids"][1:] == word and tokenizer(" 45")["input_ids"][1:] == number


@pytest.mark.parametrize("model", PRESETS)
def test_presets_say_the_same_things(model):
    assert set(preset(model)) - {"hub"} == set(preset("tiny")) - {"hub"}
    for part in ("sft", "rl"):
        assert set(preset(model)[part]) == set(preset("tiny")[part])
    preset(model)["rl"]["lr"] = 7
    assert preset(model)["rl"]["lr"] != 7


def test_names_of_models(tmp_path):
    assert run_name("Qwen/Qwen2.5-3B") == "Qwen--Qwen2.5-3B" and run_name(str(tmp_path)) == tmp_path.name
    for name in ("nothing", "./nothing", "a/b/c"):
        with pytest.raises(UserError, match="unknown model"):
            preset(name)
    with pytest.raises(UserError, match="config.json"):
        preset(str(tmp_path))


def test_levels():
    assert parse_levels("1-3,5") == (1, 2, 3, 5) and parse_levels("2") == (2,)
    for text in ("0", "6", "1-9", "x", "3-1", ""):
        with pytest.raises(Exception, match="levels"):
            parse_levels(text)


def test_random_weights_have_the_shape_of_the_preset():
    policy, _ = load("3b", random_weights=True, layers=1, dtype="bfloat16", device="meta", trainable=False)
    everything, layer = (sum(p.numel() for p in part.parameters()) for part in (policy, policy.model.layers))
    assert abs((everything + 35 * layer) / 3.09e9 - 1) < 0.01  # the published size
    with pytest.raises(UserError, match="shapes"):
        load("org/name", random_weights=True)


class Shelf:
    """A loader: what is on this machine, and what only the hub has."""

    def __init__(self, here=(), hub=()):
        self.here = here
        self.hub = hub
        self.asked = []

    def from_pretrained(self, source, local_files_only, **options):
        self.asked.append("here" if local_files_only else "hub")
        if source in (self.here if local_files_only else self.hub):
            return source, options
        raise OSError(f"no {source} {self.asked[-1]}\nand more lines")


def test_what_is_on_this_machine_is_loaded_without_network(tmp_path):
    shelf = Shelf(here=("org/name",), hub=("org/name", "org/other"))
    assert models.from_hub(shelf, "org/name", dtype=1) == ("org/name", {"dtype": 1})
    assert shelf.asked == ["here"]
    assert models.from_hub(shelf, "org/other") == ("org/other", {})
    assert shelf.asked == ["here", "here", "hub"]
    for source, asked, reason in (("nobody/nothing", ["here", "hub"], "no nobody/nothing hub"),
                                  (str(tmp_path), ["here"], f"no {tmp_path} here")):
        shelf.asked.clear()
        with pytest.raises(UserError) as error:
            models.from_hub(shelf, source)
        assert shelf.asked == asked  # a folder is never looked for in the network
        assert str(error.value) == (f"cannot load {source!r}: {reason} (no network? give --model a local "
                                    "folder, or tiny)")


def test_an_unknown_hub_model_is_one_clear_line():
    with pytest.raises(UserError, match="nobody/nothing.*local folder") as error:
        load("nobody/nothing")
    assert "\n" not in str(error.value)


def test_settings_of_another_preset(tmp_path, tokenizer):
    """A folder does not say how large its model is."""
    build(tokenizer, "llama").save_pretrained(tmp_path)
    assert preset(str(tmp_path), "3b") == {**preset("3b"), "hub": str(tmp_path)}
    args = sft.parse(["--model", str(tmp_path), "--preset", "smollm2"])
    assert args.lora_rank == 0 and args.rollout_weights == "merged"
    assert args.lr == preset("smollm2")["sft"]["lr"]
    assert sft.parse(["--model", str(tmp_path)]).lora_rank == preset(str(tmp_path))["lora_rank"] > 0


def test_trained_weights_stay_float32_whatever_they_are_multiplied_in(tmp_path, tokenizer):
    build(tokenizer, "llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    ids, mask = torch.arange(5, 45).reshape(2, 20), torch.ones(2, 20)
    found = {}
    for dtype in ("float32", "bfloat16"):
        policy, _ = load(str(tmp_path), dtype=dtype)
        assert all(p.dtype == torch.float32 for p in policy.parameters())
        logprobs, _ = score(policy, ids, mask)
        logprobs.sum().backward()
        found[dtype] = logprobs.detach(), [p.grad for p in policy.parameters()]
    (exact, gradients), (near, others) = found.values()
    assert 0 < (exact - near).abs().max() < 0.05 and near.dtype == torch.float32
    assert all(g.dtype == torch.float32 and (g - h).norm() < 0.1 * g.norm()
               for g, h in zip(gradients, others))
    weight = policy.model.layers[0].mlp.up_proj.weight
    before = weight.detach().clone()
    trainer = Trainer(trained_parameters(policy), 1e-6, micro_tokens=100)
    sft.train_step(policy, trainer, [(ids[0].tolist(), [1] * 20)], 1e-6)
    assert (weight != before).float().mean() > 0.9  # bfloat16 would have rounded nearly all of it away
    frozen, _ = load(str(tmp_path), dtype="bfloat16", trainable=False)
    assert all(p.dtype == torch.bfloat16 for p in frozen.parameters())


@pytest.mark.parametrize("kind", ["qwen2", "llama", "qwen2 lora"])
def test_a_shared_prompt_is_read_once_with_the_same_result(tokenizer, monkeypatch, kind):
    """Log-probabilities and gradients, of rows that start alike (and of rows that do not)."""
    policy = build(tokenizer, kind.split()[0]).double()
    if "lora" in kind:
        settings = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        policy = get_peft_model(policy, settings).double()
    ids = torch.randint(3, len(tokenizer), (4, 60), generator=torch.Generator().manual_seed(0))
    ids[:, :40] = ids[0, :40]
    mask = (torch.rand(4, 60, generator=torch.Generator().manual_seed(1)) < 0.5).long()
    mask[:, :35] = 0
    mask[2] = 0
    first = int(mask.any(0).nonzero()[0])  # the first trained token; the one before it predicts it
    early = mask.clone()
    early[1, 2] = 1  # so only one token stands before all that predict
    other = ids.clone()
    other[3, 0] += 1
    read = []
    model = type(models.backbone(policy))
    monkeypatch.setattr(model, "forward", watched(model.forward, read))
    for rows, trained, begun in ((ids, mask, first - 1), (ids, early, 1), (other, mask, 0),
                                 (ids[:1], mask[:1], int(mask[0].nonzero()[0]) - 1)):
        last = [int(row.nonzero().max()) if row.any() else 0 for row in trained]
        results = []
        for shared in (models.shared_prefix, lambda ids, mask: 0):
            with monkeypatch.context() as patch:
                patch.setattr(models, "shared_prefix", shared)
                policy.zero_grad()
                read.clear()
                logprobs, entropy = score(policy, rows, trained)
                (logprobs * torch.linspace(-1, 1, 60)).sum().backward()
            assert models.shared_prefix is not shared or shared(rows, trained) == begun
            begun = begun if models.shared_prefix is shared else 0
            assert read == [begun + sum(max(0, end - begun) for end in last)]  # no padding, nothing behind
            gradients = [p.grad for p in policy.parameters() if p.grad is not None]
            results.append([logprobs.detach(), entropy, *gradients])
        assert len(results[0]) == len(results[1]) > 10
        for a, b in zip(*results):
            assert (a - b).abs().max() <= 1e-5 * b.abs().max()  # some parts are in float32 in any model


def test_what_rows_share_ends_before_anything_is_predicted():
    ids = torch.tensor([[5, 6, 7, 8, 9], [5, 6, 7, 8, 1]])
    for mask, shared in (("00001", 3), ("00101", 1), ("01000", 0), ("00000", 0)):
        mask = [int(digit) for digit in mask]
        assert models.shared_prefix(ids, torch.tensor([mask, [0] * 5])) == shared
    assert models.shared_prefix(torch.tensor([[1, 2, 3], [2, 2, 3]]), torch.ones(2, 3)) == 0


@pytest.mark.parametrize("rank", [0, 4])
def test_a_shared_prompt_is_read_once_under_gradient_checkpointing(tokenizer, monkeypatch, rank):
    """Where layers are run again, in training mode, backward must see what forward saw."""
    policy = build(tokenizer)
    policy.gradient_checkpointing_enable({"use_reentrant": False})
    if rank:
        policy = get_peft_model(policy, LoraConfig(r=rank, target_modules="all-linear"))
    ids = torch.randint(3, len(tokenizer), (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(3, 12)
    mask[:, :8] = 0
    ids[:, :8] = ids[0, :8]
    model = type(models.backbone(policy))
    read = []
    monkeypatch.setattr(model, "forward", watched(model.forward, read))
    expected, _ = score(policy.eval(), ids, mask)
    expected.sum().backward()
    gradients = [p.grad.clone() for p in policy.parameters() if p.grad is not None]
    policy.zero_grad()
    read.clear()
    logprobs, _ = score(policy.train(), ids, mask)
    assert read == [7 + 3 * 4] and torch.allclose(logprobs, expected, atol=1e-5)
    logprobs.sum().backward()
    found = [p.grad for p in policy.parameters() if p.grad is not None]
    assert len(found) == len(gradients) > 10
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, gradients))


def test_beside_an_adapter_nothing_else_gets_gradients(tokenizer):
    policy = get_peft_model(build(tokenizer), LoraConfig(r=4, target_modules="all-linear"))
    embedded = []
    policy.get_input_embeddings().register_forward_hook(lambda module, given, out: embedded.append(out))
    ids = torch.randint(3, len(tokenizer), (2, 12), generator=torch.Generator().manual_seed(0))
    score(policy, ids, torch.ones(2, 12))[0].sum().backward()
    with_gradient = {name for name, p in policy.named_parameters() if p.grad is not None}
    assert with_gradient == {name for name, _ in policy.named_parameters() if "lora_" in name}
    assert [out.requires_grad for out in embedded] == [False]


def test_adapters_and_full_weights_are_not_mixed(tmp_path, tokenizer):
    """An adapter saved beside trained weights would later be put on the untrained ones, without a word."""
    build(tokenizer).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    for first, second, word in ((4, 0, "above 0"), (0, 4, "--lora-rank 0")):
        folder = tmp_path / f"rank{first}"
        folder.mkdir()
        save(*load(str(tmp_path / "base"), dtype="float32", lora_rank=first), folder)
        with pytest.raises(UserError, match=word):
            load(str(tmp_path / "base"), checkpoint_folder=folder, dtype="float32", lora_rank=second)
        for trainable in (True, False):
            load(str(tmp_path / "base"), checkpoint_folder=folder, dtype="float32", lora_rank=first,
                 trainable=trainable)


def test_a_run_knows_its_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some").mkdir()
    (tmp_path / "some/config.json").write_text(json.dumps({"model": "3b", "preset": None}))
    args = evaluate.parse(["--run", "some"])
    assert args.model == "3b" and args.style == "full" and args.turn_tokens == preset("3b")["turn_tokens"]
    assert evaluate.parse(["--run", "some", "--model", "3b", "--preset", "tiny"]).preset == "tiny"
    with pytest.raises(UserError, match="a policy of 3b, not of tiny"):
        evaluate.parse(["--run", "some", "--model", "tiny"])
    assert evaluate.parse([]).model == "tiny" and evaluate.parse(["--run", "nowhere"]).model == "tiny"
    (tmp_path / "some/config.json").write_text(json.dumps({"model": "org/name", "preset": "smollm2"}))
    args = evaluate.parse(["--run", "some"])
    assert (args.model, args.preset, args.lora_rank) == ("org/name", "smollm2", 0)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy/config.json").write_text("{}")
    assert evaluate.parse(["--run", "some", "--model", "copy"]).model == "copy"  # of what is not here
    with pytest.raises(UserError, match="not of 3b"):
        evaluate.parse(["--run", "some", "--model", "3b"])
