"""PPO: its tensors against cases worked out by hand, and its critic beside (never inside) the policy."""
import copy
from argparse import Namespace

import numpy as np
import pytest
import torch
from conftest import build
from test_losses import f64
from test_training import SETTINGS, SMALL, Recorder, episodes_for, group_episodes, trainer_of, update

import batches
import grpo
import ppo
from batches import Trainer, pad, trained_parameters
from models import load, save, score
from ppo import Critic, Reference, explained_variance, gae, shaped_rewards, value_loss, whiten
from runs import Run

# A question of two tokens, two own tokens, two of output, three own ones and padding; and a short episode.
MASK = torch.tensor([[0, 0, 1, 1, 0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 0, 0, 0, 0, 0, 0]])
ARGS = Namespace(**SETTINGS, critic_lr=3e-3)


def spread(values, fill):
    """Values of own tokens at their places, `fill` everywhere else."""
    return torch.full(MASK.shape, fill, dtype=torch.float64).masked_scatter(MASK.bool(), f64(values))


@pytest.mark.parametrize("fill", [0.0, 1e9, float("nan"), float("inf")])
def test_gae_by_hand_whatever_stands_on_other_tokens(fill):
    rewards = spread([0.1, 0.2, 0, 0, 1, 2], fill)
    values = spread([0.5, 0.4, 0.3, 0.2, 0.1, 3], fill)
    advantages, returns = gae(rewards, values, MASK, gamma=0.9, lam=0.5)
    deltas = [0.1 + 0.9 * 0.4 - 0.5, 0.2 + 0.9 * 0.3 - 0.4, 0.9 * 0.2 - 0.3, 0.9 * 0.1 - 0.2, 1 - 0.1]
    expected = [sum(0.45 ** (k - t) * deltas[k] for k in range(t, 5)) for t in range(5)] + [2 - 3]
    assert torch.allclose(advantages, spread(expected, 0.0), atol=1e-12)
    assert torch.allclose(returns, spread(np.array(expected) + [0.5, 0.4, 0.3, 0.2, 0.1, 3], 0.0), atol=1e-12)


def test_gae_with_lambda_and_gamma_1_is_reward_to_go_minus_value():
    torch.manual_seed(0)
    rewards, values = (torch.randn(20, 15, dtype=torch.float64) for _ in range(2))
    mask = torch.rand(20, 15) < 0.5
    mask[3] = False
    advantages, returns = gae(rewards, values, mask, 1.0, 1.0)
    to_go = (rewards * mask).flip(1).cumsum(1).flip(1)
    assert torch.allclose(advantages, (to_go - values) * mask) and torch.allclose(returns, to_go * mask)
    one_step, _ = gae(rewards, values, mask, 1.0, 0.0)
    own = values[0][mask[0]]
    following = torch.cat([own[1:], own.new_zeros(1)])
    assert torch.allclose(one_step[0][mask[0]], rewards[0][mask[0]] + following - own)


@pytest.mark.parametrize("fill", [0.0, 1e9, float("nan")])
def test_shaped_rewards_by_hand(fill):
    logprobs, ref = spread([-1, -2, -3, -1, -1, -1], fill), spread([-2, -2, -1, -1, -1.5, -1], -fill)
    rewards = shaped_rewards(f64([1.0, 0.1]), logprobs, ref, MASK, 0.1)
    assert torch.allclose(rewards, spread([-0.1, 0, 0.2, 0, -0.05 + 1.0, 0.1], 0.0), atol=1e-12)
    assert torch.equal(shaped_rewards(f64([1.0, 0.1]), logprobs, None, MASK, 0.1),
                       spread([0, 0, 0, 0, 1, 0.1], 0.0))
    assert (shaped_rewards(f64([1.0, 0.1]), logprobs, ref, MASK * 0, 0.1) == 0).all()


def test_whitening_counts_trained_tokens_only():
    inside = np.array([1.0, -1, 3, 0, 2, 5])
    white = whiten(spread(inside, float("nan")), MASK)
    assert torch.allclose(white, spread((inside - inside.mean()) / inside.std(ddof=1), 0.0), atol=1e-6)
    assert (whiten(spread([0.1] * 6, 9.0), MASK) == 0).all() and (whiten(white, MASK * 0) == 0).all()


def test_value_loss_by_hand():
    values, old = spread([1, 2, 0, 0, 0, 0], float("nan")), spread([0, 2, 0, 0, 0, 0], 1e9)
    returns = spread([2, 0, 0, 0, 0, 1], float("inf"))
    # The first value moved by 1, of which 0.2 counts: (0.2 - 2)^2; the second not at all: 4; the last is 1
    # off.
    assert value_loss(values, old, returns, MASK, 0.2).item() == pytest.approx((1.8 ** 2 + 4 + 1) / 6 / 2)
    assert value_loss(values, old, returns, MASK, 9.0).item() == pytest.approx((1 + 4 + 1) / 6 / 2)
    # Past the return, the clipped value would look better than it is: the worse one counts.
    worse = value_loss(f64([[3.0]]), f64([[0.0]]), f64([[0.5]]), torch.ones(1, 1), 0.5)
    assert worse.item() == 0.5 * 2.5 ** 2
    values.requires_grad_()
    value_loss(values, old, returns, MASK, 9.0).backward()
    assert torch.allclose(values.grad, spread([-1 / 6, 2 / 6, 0, 0, 0, -1 / 6], 0.0))
    assert value_loss(values, old, returns, MASK * 0, 0.2).item() == 0


def test_explained_variance():
    returns = spread([1, 0, 0, 1, 0, 1], float("nan"))
    assert explained_variance(returns, returns, MASK) == 1
    assert explained_variance(spread([0.5] * 6, 0.0), returns, MASK) == pytest.approx(0)
    assert explained_variance(1 - returns, returns, MASK) == pytest.approx(-3)
    assert explained_variance(returns, spread([1] * 6, 0.0), MASK) == 0


# ------------------------------------------------------------------------------------------------ the critic
def policies(tokenizer, tmp_path, lora):
    """(policy, reference): full parameters, or LoRA with a trained adapter on a shared base."""
    if not lora:
        policy = build(tokenizer)
        return policy, Reference(policy)
    build(tokenizer).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    policy, _ = load(str(tmp_path / "base"), dtype="float32", lora_rank=4)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    save(policy, tokenizer, tmp_path)
    policy, _ = load(str(tmp_path / "base"), checkpoint_folder=tmp_path, dtype="float32", lora_rank=4,
                     gradient_checkpointing=True)
    return policy, Reference(policy)


def all_weights(policy, critic):
    """Copies of (the policy's own weights, the critic's)."""
    own = {name: p for name, p in policy.state_dict().items() if ".critic." not in name}
    values = {name: p.detach() for name, p in critic.trainer.parameters.items()}
    return copy.deepcopy(own), copy.deepcopy(values)


def changed(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def step(policy, critic, episodes, trainer=None, **changes):
    """(advantages, numbers): what `grpo.train` does with the episodes of a step if there is a critic."""
    critic.args = Namespace(**{**vars(ARGS), **changes})
    trainer = trainer or trainer_of(policy, lr=1e-2)
    masks = [episode.mask for episode in episodes]
    old = grpo.old_logprobs(policy, trainer, episodes, masks, critic.args)
    advantages, values, numbers = critic.advantages(episodes, masks, old)
    numbers |= critic.train_on(episodes, masks, *values)
    return advantages, {**update(policy, trainer, episodes, advantages, **changes), **numbers}


@pytest.mark.parametrize("lora", [False, True])
def test_the_critic_learns_and_leaves_the_policy_alone(tokenizer, tmp_path, monkeypatch, lora):
    monkeypatch.setattr(ppo, "VALUE_CLIP", 9.0)
    monkeypatch.setattr(ppo, "CRITIC_UPDATES", 1)
    policy, reference = policies(tokenizer, tmp_path, lora)
    episodes = episodes_for(policy, [1, 0, 1, 0])
    critic = Critic(policy, reference, ARGS)
    masks, old = [e.mask for e in episodes], pad([e.logprobs for e in episodes])
    _, targets, stats = critic.advantages(episodes, masks, old)
    assert stats["kl"] == pytest.approx(0, abs=1e-6) and stats["value"] == stats["explained_variance"] == 0
    weights, values = all_weights(policy, critic)
    start = {name: p for name, p in policy.named_parameters() if ".default." in name}
    for name, p in start.items():  # it starts as a copy of the warm start
        name = "critic.layers" + name.replace(".default.", ".critic.").split("layers", 1)[1]
        assert torch.equal(p, values[name])
    assert bool(start) == lora
    losses = [critic.train_on(episodes, masks, *targets)["value_loss"] for _ in range(30)]
    assert losses[0] == pytest.approx(0.25, abs=0.1) and losses[-1] < 0.2 * losses[0]
    after = all_weights(policy, critic)
    assert not changed(weights, after[0])
    assert len(changed(values, after[1])) > 10  # the backbone or adapter learns, not the head alone
    assert lora == all("lora" in name or "head" in name for name in values)
    assert all(p.grad is None for name, p in policy.named_parameters() if ".critic." not in name)
    assert {name for name, p in policy.named_parameters() if p.requires_grad} == {
        name for name, p in policy.named_parameters() if ".default." in name or not lora}
    assert critic.advantages(episodes, masks, old)[2]["explained_variance"] > 0.5


@pytest.mark.parametrize("lora", [False, True])
def test_the_policy_update_leaves_the_critic_alone(tokenizer, tmp_path, monkeypatch, lora):
    monkeypatch.setattr(ppo, "CRITIC_UPDATES", 0)
    policy, reference = policies(tokenizer, tmp_path, lora)
    episodes = episodes_for(policy, [1, 0, 1, 0])
    critic = Critic(policy, reference, ARGS)
    weights, values = all_weights(policy, critic)
    _, metrics = step(policy, critic, episodes)
    after = all_weights(policy, critic)
    assert not changed(values, after[1]) and changed(weights, after[0])
    assert lora == all(".default." in name for name in changed(weights, after[0]))
    assert metrics["trained_tokens"] == sum(sum(e.mask) for e in episodes)
    assert {"value_loss", "explained_variance", "kl", "loss", "grad_norm"} <= set(metrics)


def test_the_policy_gradient_is_that_of_the_whitened_advantages(tokenizer, tmp_path):
    """A critic of zeros: every own token's advantage is its episode's score, whitened over own tokens."""
    policy, _ = policies(tokenizer, tmp_path, False)
    episodes = episodes_for(policy, [1, 0, 1, 0])
    trainer = trainer_of(policy, Recorder)
    step(policy, Critic(policy, None, ARGS), episodes, trainer)
    seen = trainer.optimizers[0].seen
    mask = pad([e.mask for e in episodes])
    scores = torch.tensor([[1.0], [0.0], [1.0], [0.0]]).expand(mask.shape)
    update(policy, trainer, episodes, whiten(scores, mask))
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(seen, trainer.optimizers[0].seen))


def test_values_and_their_gradient_do_not_depend_on_micro_batches(tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(ppo, "CRITIC_UPDATES", 1)
    policy, _ = policies(tokenizer, tmp_path, False)
    episodes = episodes_for(policy, [1, 0, 1, 0])
    masks, old = [e.mask for e in episodes], pad([e.logprobs for e in episodes])
    results = []
    for micro_tokens in (1, 30, 4096):
        critic = Critic(policy, None, Namespace(**{**vars(ARGS), "micro_tokens": micro_tokens}))
        torch.manual_seed(1)
        torch.nn.init.normal_(critic.head.weight)
        critic.trainer.optimizers = [Recorder(critic.trainer.parameters.values(), lr=0.0)]
        _, (values, returns), _ = critic.advantages(episodes, masks, old)
        loss = critic.train_on(episodes, masks, values, returns)["value_loss"]
        results.append((loss, values, critic.trainer.optimizers[0].seen))
    for loss, values, gradients in results[1:]:
        assert loss == pytest.approx(results[0][0], abs=1e-5)
        assert torch.allclose(values, results[0][1], atol=1e-4)
        assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(gradients, results[0][2]))
    assert (results[0][1] != 0).any()


@pytest.mark.parametrize("lora", [False, True])
def test_the_critic_reads_rows_whole_under_gradient_checkpointing(tokenizer, tmp_path, lora):
    """Its backbone trains while the policy does not; layers that are run again have no cache."""
    policy, _ = policies(tokenizer, tmp_path, lora)
    policy.gradient_checkpointing_enable({"use_reentrant": False})
    episodes = group_episodes(policy)
    ids, mask = pad([e.ids for e in episodes[:4]]), pad([e.mask for e in episodes[:4]])
    critic = Critic(policy, None, ARGS)
    torch.nn.init.normal_(critic.head.weight)
    with critic.active():
        shared = critic.values(ids, mask)
        critic.backbone.train()
        values = critic.values(ids, mask)
        alone = torch.cat([critic.values(ids[i:i + 1], mask[i:i + 1]) for i in range(4)])
    assert torch.allclose(values, alone, atol=1e-5) and torch.allclose(shared, alone, atol=1e-5)
    assert alone.abs().max() > 0


def test_a_value_is_read_before_its_token(tokenizer, tmp_path):
    """The token itself cannot change its own value, only later ones."""
    policy, _ = policies(tokenizer, tmp_path, False)
    critic = Critic(policy, None, ARGS)
    torch.nn.init.normal_(critic.head.weight)
    ids, mask = torch.arange(10, 22)[None], torch.ones(1, 12)
    with torch.no_grad():
        before = critic.values(ids, mask)
        ids[0, 6] = 99
        after = critic.values(ids, mask)
    assert torch.allclose(before[0, :7], after[0, :7])
    assert not torch.allclose(before[0, 7:], after[0, 7:], atol=1e-3)


@pytest.mark.parametrize("lora", [False, True])
def test_the_critic_is_saved_and_restored(tokenizer, tmp_path, lora):
    """Two steps at once give the numbers of one step, a checkpoint, and another one in fresh objects."""
    def start():
        policy, reference = policies(tokenizer, tmp_path / "model", lora)
        critic = Critic(policy, reference, ARGS)
        trainer = Trainer(trained_parameters(policy), 1e-3, 4096)
        return (policy, critic, trainer, trainer.parameters | critic.trainer.parameters,
                trainer.optimizers + critic.trainer.optimizers)

    (tmp_path / "model").mkdir()
    run = Run(tmp_path / "run", {})
    run.begin()
    policy, critic, trainer, parameters, optimizers = start()
    episodes = episodes_for(policy, [1, 0, 1, 0])
    step(policy, critic, episodes, trainer)
    batches.save_checkpoint(run, parameters, optimizers, 1)
    _, expected = step(policy, critic, episodes, trainer)
    policy, critic, trainer, parameters, optimizers = start()
    assert batches.restore(run, parameters, optimizers) == 1
    assert step(policy, critic, episodes, trainer)[1] == expected
    assert expected["explained_variance"] != 0


def test_kl_is_in_the_rewards_and_not_in_the_loss_again(tokenizer, tmp_path, monkeypatch):
    policy, reference = policies(tokenizer, tmp_path, False)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.1)
    episodes = episodes_for(policy, [1, 0, 1, 0])
    with_kl, without = (step(policy, Critic(policy, r, ARGS), episodes, trainer_of(policy), kl=0.5)[0]
                        for r in (reference, None))
    assert not torch.allclose(with_kl, without, atol=0.01)
    references, train_on = [], grpo.train_on
    monkeypatch.setattr(grpo, "train_on", lambda *a: (references.append(a[1]), train_on(*a))[1])
    for algorithm in ("ppo", "grpo"):
        grpo.main([*SMALL, "--algorithm", algorithm, "--kl", "0.5", "--steps", "1", "--turn-tokens", "4",
                   "--eval-questions", "0", "--out", str(tmp_path / algorithm)])
    assert references[0] is None and isinstance(references[1], Reference)


def test_kl_in_the_reward_pulls_back(tokenizer, tmp_path):
    """Equal scores, a policy that moved away from its reference: the moved tokens get less likely again."""
    policy, reference = policies(tokenizer, tmp_path, False)
    episodes = episodes_for(policy, [1, 0, 1, 0])
    update(policy, trainer_of(policy, lr=0.5), episodes, [1.0, -1.0, 1.0, -1.0])
    episodes = episodes_for(policy, [0, 0, 0, 0])

    def distance():
        return sum(score(policy, torch.tensor([e.ids]), torch.tensor([e.mask]))[0].sum().item()
                   for e in episodes[::2])

    before = distance()
    _, metrics = step(policy, Critic(policy, reference, ARGS), episodes, kl=1.0)
    assert metrics["kl"] != 0 and distance() < before
