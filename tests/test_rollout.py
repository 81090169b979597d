"""The engine: what it samples is what is trained on, whatever else is in the batch."""
import copy
import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import build, one_kind

import grpo
from batches import pad
from chat import Chat
from grpo import importance_weights
from kvcache import SlotCache
from models import Int8Linear, Merged, check_arguments, load, score
from rollout import STOPS, Engine, Limits, make_engine, sample, uniforms
from runs import UserError
from tasks import draw, select

LIMITS = Limits(turn_tokens=60, episode_tokens=300, calls=3, results_chars=300)


@pytest.fixture(scope="module")
def episodes(taught, box):
    policy, tokenizer, chat = taught
    engine = Engine(policy, tokenizer, box, LIMITS, chat=chat, slots=8)
    return engine.run(draw(select("count_bits"), "sft", 6, (1,)), samples=4, temperature=0.8, seed=1)


def test_there_are_episodes_of_several_turns(episodes):
    assert len(episodes) == 24 and sum(e.calls > 0 for e in episodes) > 12
    assert sum(e.calls > 1 for e in episodes) > 2
    assert {e.stop for e in episodes} <= set(STOPS) and sum(e.stop == "answer" for e in episodes) > 6


def test_rescoring_gives_the_samplers_logprobs(taught, episodes):
    policy, _, _ = taught
    ids, mask = pad([e.ids for e in episodes]), pad([e.mask for e in episodes])
    with torch.no_grad():
        logprobs, _ = score(policy, ids, mask, temperature=0.8)
    for row, episode in enumerate(episodes):
        sampled = torch.tensor(episode.logprobs)
        assert (logprobs[row, :len(sampled)] - sampled).abs().max() < 1e-3
        assert len(episode.ids) == len(episode.mask) == len(episode.logprobs)


def test_masks_follow_the_turns(taught, episodes):
    chat = taught[2]
    for episode in episodes:
        sampled = {t for turn in episode.turns for t in range(turn.start, turn.end)}
        assert episode.mask == [int(t in sampled) for t in range(len(episode.ids))]
        assert episode.ids[:episode.turns[0].start] == chat.prompt_ids(episode.question.prompt)
        for turn, following in zip(episode.turns, episode.turns[1:]):
            closed = episode.ids[turn.end - 1] in chat.stop_ids
            assert episode.ids[turn.end:following.start] == chat.results_ids(turn.output, closed)
            assert turn.code is not None and turn.code in turn.text


def test_answers_are_judged(episodes):
    for episode in episodes:
        right = episode.question.data["answer"]
        assert episode.correct == (episode.answer is not None and episode.answer == right)
        assert (episode.stop == "answer") == (episode.answer is not None)


@pytest.mark.parametrize("slots, questions", [(1, 2), (3, 6), (64, 6)])
def test_sampling_does_not_depend_on_slots(taught, box, episodes, slots, questions):
    policy, tokenizer, chat = taught
    engine = Engine(policy, tokenizer, box, LIMITS, chat=chat, slots=slots)
    again = engine.run(draw(select("count_bits"), "sft", questions, (1,)), samples=4, temperature=0.8, seed=1)
    assert [e.ids for e in again] == [e.ids for e in episodes[:4 * questions]]


@one_kind
def test_another_seed_samples_something_else(taught, box, episodes):
    policy, tokenizer, chat = taught
    engine = Engine(policy, tokenizer, box, LIMITS, chat=chat)
    other = engine.run(draw(select("count_bits"), "sft", 6, (1,)), samples=4, temperature=0.8, seed=2)
    assert [e.ids for e in other] != [e.ids for e in episodes]
    groups = [other[i:i + 4] for i in range(0, len(other), 4)]
    assert any(len({tuple(e.ids) for e in group}) > 1 for group in groups)  # and samples of one question


@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_greedy_decoding_is_that_of_generate(tokenizer, chat, box, kind):
    policy = build(tokenizer, kind)
    questions = draw(select("tiny"), "sft", 6, (1, 2))
    engine = Engine(policy, tokenizer, box, Limits(turn_tokens=12), chat=chat, slots=4)
    for episode in engine.run(questions, temperature=0):
        prompt = torch.tensor([chat.prompt_ids(episode.question.prompt)])
        expected = policy.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False,
                                   max_new_tokens=12, eos_token_id=list(chat.stop_ids), pad_token_id=0)
        assert episode.ids == expected[0].tolist()


def test_a_slot_never_sees_what_is_behind_its_position(tokenizer):
    policy = build(tokenizer)
    clean, poisoned = SlotCache(policy, 3, 40), SlotCache(policy, 3, 40)
    for layer in poisoned.layers:
        layer.both.fill_(1e4)
    ours = []
    for cache in (clean, poisoned):
        cache.prefill([0, 2], [[5, 6, 7], [8, 9, 10, 11, 12]], [0, 0])
        cache.prefill([1, 2], [[2, 3], [5]], [0, 5])
        ours.append(cache.decode([1, 4, 6], [3, 2, 6]))
        cache.prefill([0, 1], [[1] * 30, [1]], [5, 38])  # the second row's padding would leave its slot
    assert torch.allclose(*ours, atol=1e-5)
    for row, ids in enumerate([[5, 6, 7, 1], [2, 3, 4], [8, 9, 10, 11, 12, 5, 6]]):
        alone = policy(input_ids=torch.tensor([ids])).logits[0, -1]
        assert torch.allclose(ours[1][row], alone, atol=1e-4)


@pytest.mark.parametrize("change, stop", [({"turn_tokens": 5}, "length"), ({"calls": 1}, "calls"),
                                          ({"episode_tokens": 75}, "length"),
                                          ({"episode_tokens": 20}, "length")])
@one_kind
def test_limits_end_episodes(taught, box, change, stop):
    policy, tokenizer, chat = taught
    limits = dataclasses.replace(LIMITS, **change)
    engine = Engine(policy, tokenizer, box, limits, chat=chat)
    episodes = engine.run(draw(select("count_bits"), "sft", 12, (1,)), temperature=0)
    assert any(e.stop == stop for e in episodes)
    for episode in episodes:
        assert all(turn.end - turn.start <= limits.turn_tokens for turn in episode.turns)
        assert episode.calls <= limits.calls
        assert len(episode.ids) <= max(limits.episode_tokens, len(chat.prompt_ids(episode.question.prompt)))
        assert episode.stop == "answer" or not episode.correct


@one_kind
def test_text_mode_runs_nothing(taught, box):
    policy, tokenizer, _ = taught
    chat = Chat(tokenizer, mode="text", style="short")
    engine = Engine(policy, tokenizer, box, LIMITS, chat=chat)
    episodes = engine.run(draw(select("count_bits"), "sft", 4, (1,)), temperature=0)
    assert all(e.calls == 0 and e.stop in ("void", "answer", "length") for e in episodes)


@one_kind
def test_training_mode_is_refused(taught, box):
    policy, tokenizer, chat = taught
    policy.train()
    with pytest.raises(ValueError, match="eval"):
        Engine(policy, tokenizer, box, LIMITS, chat=chat).run([])
    policy.eval()


def test_sampling_follows_the_distribution():
    logits = torch.log(torch.tensor([0.5, 0.0, 0.3, 0.2])).repeat(20000, 1)
    u = uniforms(3, torch.arange(20000), torch.zeros(20000, dtype=torch.long))
    assert 0 <= u.min() and u.max() < 1 and len(u.unique()) == 20000
    ids, logprobs = sample(logits, u, temperature=1.0)
    shares = torch.bincount(ids, minlength=4) / 20000
    assert torch.allclose(shares, torch.tensor([0.5, 0.0, 0.3, 0.2]), atol=0.015)
    assert torch.allclose(logprobs.exp(), torch.tensor([0.5, 0.0, 0.3, 0.2])[ids], atol=1e-6)
    ids, _ = sample(logits, u, temperature=0.5)  # squared odds: 25 : 9 : 4
    shares = torch.bincount(ids, minlength=4) / 20000
    assert torch.allclose(shares, torch.tensor([25, 0, 9, 4]) / 38, atol=0.015)
    ids, _ = sample(logits, u, temperature=1.0, top_p=0.6)
    assert set(ids.tolist()) == {0, 2}
    edge = sample(logits[:2], torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64), 1.0)[0]
    assert edge.tolist() == [0, 3]


# -------------------------------------------------------------------------------------- what the engine does
def count_reads(monkeypatch):
    """A list of how many tokens each prefill brought into each row."""
    reads, prefill = [], SlotCache.prefill

    def counting_prefill(self, rows, ids, starts):
        reads.append([len(row) for row in ids])
        return prefill(self, rows, ids, starts)

    monkeypatch.setattr(SlotCache, "prefill", counting_prefill)
    return reads


def test_a_prompt_is_read_once_per_question(taught, box, monkeypatch):
    policy, tokenizer, chat = taught
    reads = count_reads(monkeypatch)
    questions = draw(select("count_bits"), "sft", 3, (1,))
    engine = Engine(policy, tokenizer, box, LIMITS, chat=chat, slots=5)
    episodes = engine.run(questions, samples=6, temperature=0.8)
    prompts = sum(len(chat.prompt_ids(q.prompt)) - 1 for q in questions)
    results = sum(len(e.ids[a.end:b.start]) for e in episodes for a, b in zip(e.turns, e.turns[1:]))
    # of a result the last id is decoded, but the fence before it read
    assert sum(map(sum, reads)) == prompts + results


@pytest.mark.parametrize("chunk, questions", [(1, 2), (7, 3), (50, 3)])
@one_kind
def test_chunks_change_nothing_and_are_never_exceeded(taught, box, episodes, monkeypatch, chunk, questions):
    policy, tokenizer, chat = taught
    reads = count_reads(monkeypatch)
    engine = Engine(policy, tokenizer, box, LIMITS, chat=chat, slots=6, chunk=chunk)
    again = engine.run(draw(select("count_bits"), "sft", questions, (1,)), samples=4, temperature=0.8, seed=1)
    assert [e.ids for e in again] == [e.ids for e in episodes[:4 * questions]]
    assert max(len(rows) * max(rows) for rows in reads) <= chunk


@one_kind
def test_decoding_does_not_starve(taught, box, monkeypatch):
    """While a long prompt is read in small pieces, the other rows go on."""
    policy, tokenizer, chat = taught
    questions = draw(select("count_bits"), "sft", 4, (1,))
    long = dataclasses.replace(questions[0], prompt=questions[0].prompt * 4)
    order = []
    prefill, extend = SlotCache.prefill, Engine._extend
    monkeypatch.setattr(SlotCache, "prefill", lambda *a: (order.append("read"), prefill(*a))[1])
    monkeypatch.setattr(Engine, "_extend", lambda *a: (order.append("write"), extend(*a))[1])
    Engine(policy, tokenizer, box, LIMITS, chat=chat, chunk=8).run([*questions[1:], long], temperature=0)
    first = order.index("write")
    between = order[first:len(order) - order[::-1].index("read")]
    assert between.count("read") > 5 and between.count("write") > 5


@one_kind
def test_the_cache_is_allocated_once(taught, box):
    policy, tokenizer, chat = taught
    engine = Engine(policy, tokenizer, box, LIMITS, chat=chat, slots=4)
    questions = draw(select("count_bits"), "sft", 8, (1,))
    engine.run(questions[:4], temperature=0)
    where = [layer.both.data_ptr() for layer in engine.cache.layers]
    engine.run(questions, temperature=0)
    assert where == [layer.both.data_ptr() for layer in engine.cache.layers]
    engine.cache.bytes = 2**29  # a large one gives way to training
    engine.run(questions, temperature=0)
    assert engine.cache is None


class SlowBox:
    """Programs take so long that the order in which they are done is up to us."""

    def __init__(self, box):
        self.box, self.threads = box, ThreadPoolExecutor(8)
        self.seconds = iter([0.1, 0.003, 0.07, 0.02] * 100)

    def submit(self, code):
        def late(seconds):
            time.sleep(seconds)
            return self.box.run(code)
        return self.threads.submit(late, next(self.seconds))


@one_kind
def test_slow_programs_hold_up_nobody(taught, box, episodes):
    """Whether they are waited for or not, and in whatever order they end, the episodes are the same."""
    policy, tokenizer, chat = taught
    seconds = {}
    for exact in (True, False):
        engine = Engine(policy, tokenizer, SlowBox(box), LIMITS, chat=chat, slots=8, exact=exact)
        again = engine.run(draw(select("count_bits"), "sft", 6, (1,)), samples=4, temperature=0.8, seed=1)
        assert [e.ids for e in again] == [e.ids for e in episodes]
        seconds[exact] = engine.seconds_waiting
    assert seconds[False] < seconds[True]


@pytest.mark.parametrize("limits", [{"episode_tokens": 130}, {"calls": 1}])
@one_kind
def test_slow_programs_of_episodes_that_end_early(taught, box, limits):
    """The order in which programs are done, and episodes that end at a limit, change nothing."""
    policy, tokenizer, chat = taught
    questions, limits = draw(select("count_bits"), "sft", 6, (1,)), dataclasses.replace(LIMITS, **limits)
    plain = Engine(policy, tokenizer, box, limits, chat=chat).run(questions, 4, temperature=0.8, seed=1)
    engine = Engine(policy, tokenizer, SlowBox(box), limits, chat=chat, slots=10, exact=False)
    again = engine.run(questions, 4, temperature=0.8, seed=1)
    assert [(e.ids, e.stop) for e in again] == [(e.ids, e.stop) for e in plain]


@one_kind
def test_episodes_are_known_by_their_number(taught, box, episodes):
    """A part of a run samples what the whole run samples. Known episodes are left out; if it shall repeat bit
    by bit, only as a whole."""
    policy, tokenizer, chat = taught
    engine = Engine(policy, tokenizer, box, LIMITS, chat=chat, slots=8)
    questions, options = draw(select("count_bits"), "sft", 6, (1,)), {"temperature": 0.8, "seed": 1}
    assert [e.number for e in episodes] == list(range(24))
    part = engine.run(questions[4:], samples=4, first=16, skip=range(23), **options)
    assert [(e.number, e.ids) for e in part] == [(e.number, e.ids) for e in episodes[16:]]
    assert engine.run(questions[4:], samples=4, first=16, skip=range(16, 24), **options) == []
    engine.exact = False
    part = engine.run(questions[4:], samples=4, first=16, skip={*range(16, 20), 22}, **options)
    assert [(e.number, e.ids) for e in part] == [(e.number, e.ids) for e in episodes[20:] if e.number != 22]


@one_kind
def test_an_engine_speaks_in_other_modes(taught, box):
    policy, tokenizer, chat = taught
    engine = Engine(policy, tokenizer, box, LIMITS, chat=Chat(tokenizer, "text", "short", "boxed", (5,)))
    engine.speak("code", "full")
    assert engine.chat.head == Chat(tokenizer, "code", "full", "boxed").head
    assert engine.chat.stop_ids == chat.stop_ids | {5}


def test_merged_weights_sample_the_same(tokenizer, chat, box):
    """LoRA on NF4: a merged float32 copy gives the policy's own log-probs, before and after an update."""
    peft = pytest.importorskip("peft")
    plain = build(tokenizer)
    torch.manual_seed(1)
    policy = peft.get_peft_model(plain, peft.LoraConfig(r=4, target_modules="all-linear",
                                                        init_lora_weights=False)).eval()
    engine = Engine(policy, tokenizer, box, Limits(turn_tokens=12), chat=chat,
                    merged=Merged(policy, torch.float32))
    questions = draw(select("tiny"), "sft", 4, (1,))
    for _ in range(2):
        episodes = engine.run(questions, temperature=1.0)
        ids, mask = pad([e.ids for e in episodes]), pad([e.mask for e in episodes])
        with torch.no_grad():
            logprobs, _ = score(policy, ids, mask)
        assert torch.allclose(logprobs, pad([e.logprobs for e in episodes]), atol=1e-3)
        with torch.no_grad():
            for parameter in policy.parameters():
                if parameter.requires_grad:
                    parameter += 0.05 * torch.randn_like(parameter)


@one_kind
def test_eight_bits_sample_nearly_the_same(taught, box):
    """Also after an update; what is trained stays as it was."""
    source, tokenizer, _chat = taught
    policy = copy.deepcopy(source)
    args = grpo.parse(["--rollout-weights", "int8", "--turn-tokens", "40", "--device", "cpu"])
    engine = make_engine(policy, tokenizer, box, args)
    questions = draw(select("tiny"), "sft", 8, (1,))
    for _ in range(2):
        before = copy.deepcopy(policy.state_dict())
        episodes = engine.run(questions, 2, temperature=1.0)
        assert all(torch.equal(before[name], value) for name, value in policy.state_dict().items())
        own = pad([e.mask for e in episodes]).bool()
        with torch.no_grad():
            logprobs, _ = score(policy, pad([e.ids for e in episodes]), own)
            difference = (logprobs - pad([e.logprobs for e in episodes]))[own].abs()
            assert 0 < difference.mean() < 0.05
            for parameter in policy.parameters():
                parameter += 0.02 * torch.randn_like(parameter)


def test_turned_rows_survive_a_large_value():
    """Rounded in 127 steps as it stands, a row with one large value would lose most of the others."""
    class Unturned(Int8Linear):
        turn = torch.eye(32)

    torch.manual_seed(0)
    plain, x, errors = torch.nn.Linear(128, 64), torch.randn(16, 4, 128), []
    x[:, :, 7] = 30.0
    for kind in (Int8Linear, Unturned):
        eight = kind(plain.bias)
        eight.pack(plain.weight.data)
        with torch.no_grad():
            errors.append((eight(x) - plain(x)).abs().mean())
    assert errors[0] < 0.02 and errors[0] < errors[1] / 2
    assert torch.allclose(Int8Linear.turn @ Int8Linear.turn, torch.eye(32), atol=1e-5)


def test_eight_bits_are_for_a_cpu(monkeypatch):
    monkeypatch.setattr("models.device_of", lambda name: "cuda:0")
    with pytest.raises(UserError, match="use merged"):
        check_arguments(grpo.parse(["--rollout-weights", "int8"]))


def test_importance_weights_are_ratios_up_to_the_cap():
    old, sampled = torch.tensor([[-1.0, -2.0, -9.0]]), torch.tensor([[-1.5, -1.0, 0.0]])
    weights = importance_weights(old, sampled, torch.tensor([[1, 1, 0]]), cap=1.5)
    assert torch.allclose(weights, torch.tensor([[1.5, 0.36788, 1.0]]), atol=1e-4)


def test_greedy_turns_after_results_are_those_of_generate(taught, box):
    policy, tokenizer, chat = taught
    questions = draw(select("count_bits"), "sft", 8, (1,))
    questions[2] = dataclasses.replace(questions[2], prompt="Hello. " * 30 + questions[2].prompt)
    episodes, *others = (Engine(policy, tokenizer, box, LIMITS, chat=chat, slots=slots).run(
        questions, temperature=0) for slots in (1, 3, 32))
    assert all([e.ids for e in other] == [e.ids for e in episodes] for other in others)
    assert any(len(e.turns) > 1 for e in episodes)
    for episode in episodes:
        for turn in episode.turns:
            before = torch.tensor([episode.ids[:turn.start]])
            expected = policy.generate(before, attention_mask=torch.ones_like(before), do_sample=False,
                                       max_new_tokens=turn.end - turn.start, eos_token_id=list(chat.stop_ids),
                                       pad_token_id=0)
            assert episode.ids[turn.start:turn.end] == expected[0, turn.start:].tolist()


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_weights_are_unpacked_and_merged(quantize):
    policy, _ = load("tiny", quantize=quantize, lora_rank=4, dtype="float32")
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    copied = Merged(policy, torch.float32)
    copied.refresh(policy)
    merged = copied.policy
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        near = 2e-2 if quantize == "nf4" else 1e-4
        assert torch.allclose(merged(ids).logits, policy(ids).logits, atol=near)
        with policy.disable_adapter():
            assert not torch.allclose(merged(ids).logits, policy(ids).logits, atol=0.1)


def test_in_mixed_precision_the_sampled_policy_is_the_trained_one(tmp_path, tokenizer, box):
    """Float32 weights multiplied in bfloat16: the sampler must do as the trainer does."""
    build(tokenizer, "llama").save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    policy, _ = load(str(tmp_path), dtype="bfloat16")
    args = grpo.parse(["--model", str(tmp_path), "--lora-rank", "0", "--dtype", "bfloat16",
                       "--turn-tokens", "16", "--device", "cpu"])
    args.style = "short"
    engine = make_engine(policy, tokenizer, box, args)
    made = engine.run(draw(select("tiny"), "sft", 8, (1,)), temperature=1.0)
    ids, mask, sampled = (pad([getattr(e, name) for e in made]) for name in ("ids", "mask", "logprobs"))
    with torch.no_grad():
        trained, _ = score(policy, ids, mask)
    apart = (trained - sampled)[mask.bool()].abs()
    assert engine.merged.policy.dtype == torch.bfloat16 and len(apart) > 60 and 0 < apart.mean() < 0.01


def test_what_has_nothing_to_merge_is_not_copied(tmp_path, tokenizer, box):
    """The untrained model is sampled from as it is, whatever its preset says of trained ones."""
    build(tokenizer).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    args = grpo.parse(["--model", str(tmp_path), "--rollout-weights", "merged", "--dtype", "float32"])
    args.style = "short"
    for rank, trainable in ((0, False), (4, True)):
        policy, _ = load(str(tmp_path), dtype="float32", lora_rank=rank, trainable=trainable)
        assert (make_engine(policy, tokenizer, box, args).merged is not None) == trainable
