"""Losses, advantages and scoring against cases worked out by hand or with numpy in float64."""
import numpy as np
import pytest
import torch
from conftest import build

from batches import micro_batches, pad
from grpo import group_advantages, policy_loss
from models import score, token_logprobs, unwrap
from sft import masked_cross_entropy


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------ advantages
def test_advantages_by_hand():
    rewards, groups = f64([1, 0, 0, 1, 3, 1]), torch.tensor([7, 7, 7, 7, 2, 2])
    stds = np.array([np.std([1, 0, 0, 1], ddof=1)] * 4 + [2 ** 0.5] * 2)
    expected = np.array([0.5, -0.5, -0.5, 0.5, 1, -1]) / stds
    assert torch.allclose(group_advantages(rewards, groups), torch.tensor(expected))
    assert torch.equal(group_advantages(rewards, groups, scale=False), f64([0.5, -0.5, -0.5, 0.5, 1, -1]))


@pytest.mark.parametrize("value", [0.1, -0.1, 1.1, 1 / 3])
def test_dead_groups_are_exactly_zero(value):
    for size in (1, 5, 8):
        advantages = group_advantages(torch.full((size,), value), torch.zeros(size, dtype=torch.long))
        assert (advantages == 0).all()


def test_groups_are_independent_of_order():
    torch.manual_seed(0)
    rewards, groups = torch.randn(40, dtype=torch.float64), torch.arange(40) % 8
    order = torch.randperm(40)
    assert torch.allclose(group_advantages(rewards, groups)[order],
                          group_advantages(rewards[order], groups[order]))
    for group in range(8):
        assert abs(group_advantages(rewards, groups)[groups == group].sum()) < 1e-12


# ----------------------------------------------------------------------------------------------- policy loss
def reference_loss(logprobs, old, advantages, mask, low, high, ref, kl_coef, aggregate, max_length):
    """The objective written with loops over numpy floats."""
    per_sequence, tokens = [], 0
    for b in range(len(logprobs)):
        total, count = 0.0, 0
        for t in range(len(logprobs[b])):
            if not mask[b][t]:
                continue
            ratio, a = np.exp(logprobs[b][t] - old[b][t]), advantages[b]
            d = ref[b][t] - logprobs[b][t]
            total += -min(ratio * a, np.clip(ratio, 1 - low, 1 + high) * a) + kl_coef * (np.exp(d) - d - 1)
            count += 1
        tokens += count
        per_sequence.append((total, count))
    if aggregate == "sequence":
        return sum(total / max(count, 1) for total, count in per_sequence) / len(per_sequence)
    if aggregate == "token":
        return sum(total for total, _ in per_sequence) / tokens
    return sum(total for total, _ in per_sequence) / max_length / len(per_sequence)


@pytest.mark.parametrize("aggregate", ["sequence", "token", "constant"])
def test_policy_loss_against_loops(aggregate):
    rng = np.random.default_rng(1)
    logprobs, old, ref = (rng.normal(-1, 0.4, (4, 7)) for _ in range(3))
    advantages, mask = np.array([1.0, -0.5, 2.0, -1.0]), rng.random((4, 7)) < 0.6
    mask[3] = False  # a sequence without trained tokens
    expected = reference_loss(logprobs, old, advantages, mask, 0.2, 0.28, ref, 0.05, aggregate, 16)
    loss, stats = policy_loss(*map(torch.tensor, (logprobs, old, advantages, mask)), clip_low=0.2,
                              clip_high=0.28, ref_logprobs=torch.tensor(ref), kl_coef=0.05,
                              aggregate=aggregate, max_length=16)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    assert stats["tokens"] == mask.sum()
    repeated = advantages[:, None] * np.ones((4, 7))
    per_token, _ = policy_loss(*map(torch.tensor, (logprobs, old, repeated, mask)), clip_high=0.28,
                               ref_logprobs=torch.tensor(ref), kl_coef=0.05,
                               aggregate=aggregate, max_length=16)
    assert per_token.item() == pytest.approx(expected, abs=1e-12)


def test_micro_batches_add_up_to_the_step():
    torch.manual_seed(0)
    logprobs, old = (torch.randn(6, 5, dtype=torch.float64) * 0.1 - 1 for _ in range(2))
    advantages, mask = torch.randn(6, dtype=torch.float64), torch.rand(6, 5) < 0.7
    for aggregate, normalizer in (("sequence", 6), ("token", int(mask.sum())), ("constant", 6)):
        whole, _ = policy_loss(logprobs, old, advantages, mask, aggregate=aggregate, max_length=5)
        parts = sum(policy_loss(logprobs[i], old[i], advantages[i], mask[i], aggregate=aggregate,
                                max_length=5,
                                normalizer=normalizer)[0] for i in (slice(0, 1), slice(1, 4), slice(4, 6)))
        assert parts.item() == pytest.approx(whole.item(), abs=1e-12)


def test_masked_places_do_nothing_even_when_absurd():
    logprobs = torch.tensor([[-1.0, -800.0, -2.0]], dtype=torch.float64, requires_grad=True)
    old = f64([[-1.0, 0.0, -2.0]])
    loss, _ = policy_loss(logprobs, old, f64([1.0]), torch.tensor([[1, 0, 1]]),
                          ref_logprobs=f64([[-1.0, 900.0, -2.0]]), kl_coef=0.1)
    loss.backward()
    assert loss.item() == pytest.approx(-1.0)
    assert logprobs.grad.tolist() == [[-0.5, 0.0, -0.5]]


def test_all_masked_batch_gives_zero_not_nan():
    logprobs = torch.zeros(2, 3, requires_grad=True)
    for aggregate in ("sequence", "token", "constant"):
        loss, _ = policy_loss(logprobs, torch.zeros(2, 3), torch.ones(2), torch.zeros(2, 3),
                              aggregate=aggregate)
        loss.backward()
        assert loss.item() == 0 and (logprobs.grad == 0).all()


@pytest.mark.parametrize("advantage, ratio, moves", [(1, 1.5, False), (1, 0.5, True), (-1, 0.5, False),
                                                     (-1, 1.5, True)])
def test_clipping_stops_the_gradient_on_the_right_side(advantage, ratio, moves):
    logprobs = torch.log(f64([[ratio]])).requires_grad_()
    loss, stats = policy_loss(logprobs, f64([[0.0]]), f64([float(advantage)]), torch.ones(1, 1))
    loss.backward()
    assert (logprobs.grad.abs().item() > 0) == moves
    assert stats["clipped"] == (not moves)


def test_unknown_aggregate_is_refused():
    with pytest.raises(ValueError, match="aggregate"):
        policy_loss(torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1), torch.ones(1, 1), aggregate="mean")


# --------------------------------------------------------------------------------------------- cross-entropy
def test_masked_cross_entropy_by_hand():
    torch.manual_seed(0)
    logits, ids = torch.randn(2, 4, 5, dtype=torch.float64), torch.randint(5, (2, 4))
    mask = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 0]])  # the first token of row 0 can never be trained
    trained = ((0, 2), (0, 3), (1, 1))
    expected = -sum(torch.log_softmax(logits[b, t - 1], -1)[ids[b, t]] for b, t in trained) / 3
    assert masked_cross_entropy(logits, ids, mask).item() == pytest.approx(expected.item(), abs=1e-12)
    assert masked_cross_entropy(logits, ids, torch.zeros_like(mask)).item() == 0


def test_token_logprobs_temperature_and_entropy():
    logits = f64([[[0.0, np.log(2), np.log(5)]]])
    logprobs, entropy = token_logprobs(logits, torch.tensor([[2]]))
    p = np.array([1, 2, 5]) / 8
    assert logprobs.item() == pytest.approx(np.log(5 / 8))
    assert entropy.item() == pytest.approx(-(p * np.log(p)).sum())
    p = np.array([1, 4, 25]) / 30  # temperature 1/2 squares the odds
    assert token_logprobs(logits, torch.tensor([[1]]), 0.5)[0].item() == pytest.approx(np.log(p[1]))
    impossible = f64([[[0.0, float("-inf")]]])
    assert token_logprobs(impossible, torch.tensor([[0]]))[1].item() == 0


# --------------------------------------------------------------------------------------------------- scoring
def naive_score(policy, ids, mask, temperature=1.0):
    """What `score` computes, from the full logits."""
    logprobs, entropy = token_logprobs(policy(input_ids=ids).logits[:, :-1], ids[:, 1:], temperature)
    trained = mask.clone().index_fill_(1, torch.tensor([0]), 0)
    return [torch.nn.functional.pad(values, (1, 0)) * trained for values in (logprobs, entropy)]


def gradients_of(policy, logprobs):
    policy.zero_grad()
    (logprobs * torch.arange(logprobs.shape[1])).sum().backward()
    return [p.grad.clone() for p in policy.parameters() if p.requires_grad]


@pytest.mark.parametrize("head", ["trained", "frozen"])  # with LoRA it is not trained
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
@pytest.mark.parametrize("chunk", [3, 1000])
def test_score_equals_the_naive_way(tokenizer, kind, chunk, head):
    policy = build(tokenizer, kind)
    policy.get_output_embeddings().requires_grad_(head == "trained")
    torch.manual_seed(1)
    ids, mask = torch.randint(len(tokenizer), (3, 12)), (torch.rand(3, 12) < 0.5).long()
    ids[:, :4], mask[:, :4] = ids[0, :4], 0  # a prompt that all share
    expected, found = naive_score(policy, ids, mask, 0.7), score(policy, ids, mask, 0.7, chunk)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(expected, found, strict=True))
    assert found[0].abs().max() > 1 and (found[1] > 0).any() and not found[1].requires_grad
    for a, b in zip(gradients_of(policy, expected[0]), gradients_of(policy, found[0]), strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_score_multiplied_in_bfloat16_stays_near_and_adds_up_in_float32(tokenizer):
    policy = build(tokenizer)
    torch.manual_seed(1)
    ids, mask, results = torch.randint(len(tokenizer), (3, 60)), (torch.rand(3, 60) < 0.5).long(), []
    for mixed in (False, True):
        unwrap(policy).mixed_precision = mixed
        logprobs, entropy = score(policy, ids, mask, chunk=50)
        assert logprobs.dtype == entropy.dtype == torch.float32 and not entropy.requires_grad
        assert (entropy[:, 1:][mask[:, 1:].bool()] > 0).all()
        results.append((logprobs, gradients_of(policy, logprobs)))
    (exact, exact_grads), (near, near_grads) = results
    assert 0 < (exact - near).abs().max() < 0.02
    for a, b in zip(exact_grads, near_grads, strict=True):
        assert b.dtype == torch.float32 and (a - b).norm() < 0.03 * a.norm()


def test_score_does_not_see_padding(tokenizer):
    policy = build(tokenizer)
    short, other = [5, 6, 7, 8], list(range(20, 40))
    mask = [0, 1, 1, 1]
    alone, _ = score(policy, pad([short]), pad([mask]))
    beside, _ = score(policy, pad([other, short]), pad([[0] * 20, mask]))
    assert torch.allclose(alone[0], beside[1, :4], atol=1e-5) and (beside[1, 4:] == 0).all()


def test_score_without_trained_tokens(tokenizer):
    policy = build(tokenizer)
    logprobs, entropy = score(policy, torch.ones(2, 3, dtype=torch.long), torch.zeros(2, 3))
    logprobs.sum().backward()
    assert (logprobs == 0).all() and (entropy == 0).all() and unwrap(policy) is policy


def test_micro_batches_cover_everything_within_budget():
    lengths = [3, 50, 7, 7, 49, 20, 1, 100]
    groups = micro_batches(lengths, 100)
    assert sorted(i for group in groups for i in group) == list(range(8))
    assert groups[0] == [7]  # longest first: running out of memory shows at once
    assert all(len(group) == 1 or len(group) * max(lengths[i] for i in group) <= 100 for group in groups)


def test_micro_batches_of_shared_prompts_hold_one_prompt_each():
    prompts = ["a", "b", "b", "a", "b", "c"]
    lengths = [30, 10, 50, 20, 31, 9]
    groups = micro_batches(lengths, 100, prompts)
    assert groups == [[2, 4], [1], [0, 3], [5]]  # the longest first; 10 is less than half of 50
    assert micro_batches(lengths, 99, prompts) == [[2], [4], [1], [0, 3], [5]]
    assert micro_batches(lengths, 100, prompts, chosen=[1, 4, 0]) == [[4], [1], [0]]
    assert micro_batches([], 10, []) == []
