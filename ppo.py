"""PPO: a critic in the place of GRPO's group mean. Loop, policy loss, rewards and flags are those of grpo.py.

    python grpo.py --algorithm ppo

For the own tokens of an episode, t = 1 .. n; tokens of prompts and results do not exist here, t + 1 is the
next *own* token, whatever stood between:

    reward       r_t = -beta (log pi(t) - log pi_ref(t)), and the episode's score on top of r_n
    value        V_t: what the critic expects from here on, read before token t is written
    GAE          delta_t = r_t + gamma V_{t+1} - V_t,  A_t = delta_t + gamma lambda A_{t+1},  V_{n+1} = 0
    return       R_t = A_t + V_t, what the critic is to predict
    whitening    A_t minus mean, divided by std, over all trained tokens of the step

An interpreter's output is nothing that the policy did, so it is no step of the recursion: a value read inside
it would leak into the advantages of real tokens. The paper (v2) reports PPO about equal to GRPO and gives no
settings; gamma = lambda = 1 (advantage = return - value) and value clip 0.5 are the Search-R1 script's.

The critic may not share trained weights with the policy: the value loss would push the policy about. So with
LoRA it is a second adapter on the shared frozen base (small: one GPU holds both), with full parameters a copy
of the backbone (which doubles the memory; that is the price of training all of them). Both start as copies of
the warm start, with a value head of zeros: at first every value is 0, and the advantages are the scores minus
their mean. The frozen reference that a KL term measures from, here and in GRPO, is made in the same way.
"""
import argparse
import copy
from contextlib import contextmanager, nullcontext

import torch

from batches import Trainer, pad, prompt_of
from models import backbone, predicting_states, score, unwrap
from rollout import Episode

GAMMA = 1.0  # discount per own token
LAMBDA = 1.0  # of GAE: 1 trusts the returns, 0 the critic
VALUE_CLIP = 0.5  # how far a value may move in one step
CRITIC_UPDATES = 2  # of the critic from the episodes of a step


# ---------------------------------------------------------------------------------- the algorithm, as tensors
def shaped_rewards(scores: torch.Tensor, logprobs: torch.Tensor, ref_logprobs: torch.Tensor | None,
                   mask: torch.Tensor, kl_coef: float) -> torch.Tensor:
    """Rewards (B, T) of single tokens: -kl_coef (logprobs - ref_logprobs) on trained ones, the episode's
    score (B,) on the last of them; 0 elsewhere. A sequence without trained tokens gets no reward."""
    trained = mask.bool()
    rewards = torch.zeros_like(logprobs)
    if ref_logprobs is not None:
        rewards = torch.where(trained, -kl_coef * (logprobs - ref_logprobs), rewards)
    last = trained & (trained.flip(1).cumsum(1).flip(1) == 1)
    return torch.where(last, rewards + scores[:, None], rewards)


def gae(rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, lam: float
        ) -> tuple[torch.Tensor, torch.Tensor]:
    """(advantages, returns), all (B, T), by a recursion over trained tokens only; 0 elsewhere. What stands at
    other places is never read, be it NaN. After the last trained token nothing is to come (also for an
    episode cut at a limit: its score is what it got)."""
    trained = mask.bool()
    advantages = torch.zeros_like(values)
    next_value = next_advantage = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        next_advantage = torch.where(trained[:, t], delta + gamma * lam * next_advantage, next_advantage)
        next_value = torch.where(trained[:, t], values[:, t], next_value)
        advantages[:, t] = next_advantage
    return torch.where(trained, advantages, 0.0), torch.where(trained, advantages + values, 0.0)


def whiten(advantages: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Advantages (B, T) with mean 0, std 1 over the trained tokens; all 0 if equal but for rounding."""
    trained = mask.bool()
    inside = advantages[trained]
    if len(inside) < 2 or inside.std() < 1e-6:  # a step without reward: the noise of its KL is no advantage
        return torch.zeros_like(advantages)
    return torch.where(trained, (advantages - inside.mean()) / (inside.std() + 1e-8), 0.0)


def value_loss(values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor,
               clip: float) -> torch.Tensor:
    """Half the mean squared error over trained tokens: a scalar. Of the value and the value kept within
    `clip` of what it was at the rollout, the worse one counts, so that one step cannot carry it far."""
    trained = mask.bool()
    values, old_values, returns = (x[trained] for x in (values, old_values, returns))  # inf * 0 would be NaN
    near = old_values + (values - old_values).clamp(-clip, clip)
    errors = torch.maximum((values - returns) ** 2, (near - returns) ** 2)
    return 0.5 * errors.sum() / max(1, len(errors))


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> float:
    """1: the critic foresaw every return; 0: no better than a constant (also where all returns are equal)."""
    values, returns = values[mask.bool()], returns[mask.bool()]
    spread = returns.var(correction=0) if len(returns) else torch.tensor(0.0)
    return (1 - (returns - values).var(correction=0) / spread).item() if spread > 0 else 0.0


# ---------------------------------------------------------------------------- what stands beside the policy
def copy_adapter(policy, name: str) -> None:
    """With LoRA: a second adapter on the shared base that starts as a copy of the policy's own."""
    policy.add_adapter(name, copy.deepcopy(policy.peft_config["default"]))
    weights = dict(policy.named_parameters())
    with torch.no_grad():
        for key, weight in weights.items():
            if f".{name}." in key:
                weight.copy_(weights[key.replace(f".{name}.", ".default.")])
    policy.set_adapter("default")


@contextmanager
def with_adapter(policy, name: str):
    """That adapter in place of the policy's own. Backward belongs inside (gradient checkpointing)."""
    policy.set_adapter(name)
    try:
        yield policy
    finally:
        policy.set_adapter("default")


class Reference:
    """The policy that RL started from, frozen: what the KL term measures the distance to. With LoRA it is a
    second copy of the SFT adapter: the adapter switched *off* would be the base model, and KL would pull back
    to the cold start. With full parameters it is a copy of everything."""

    def __init__(self, policy):
        self.lora = hasattr(policy, "peft_config")
        if self.lora:
            copy_adapter(policy, "reference")
        self.policy = policy if self.lora else copy.deepcopy(policy).requires_grad_(False)

    def active(self):
        """For `with`: the policy to score with."""
        return with_adapter(self.policy, "reference") if self.lora else nullcontext(self.policy)


class Critic:
    """V(what stands before token t): a backbone of its own (or an adapter of its own) and a linear head."""

    def __init__(self, policy, reference: Reference | None, args: argparse.Namespace):
        self.policy = policy
        self.reference = reference
        self.args = args
        self.lora = hasattr(policy, "peft_config")
        if self.lora:
            copy_adapter(policy, "critic")
        self.backbone = backbone(policy) if self.lora else copy.deepcopy(backbone(policy))
        self.device = next(policy.parameters()).device
        self.head = torch.nn.Linear(unwrap(policy).config.hidden_size, 1, device=self.device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        own = {name: p for name, p in self.backbone.named_parameters() if ".critic." in name or not self.lora}
        own |= {f"head.{name}": p for name, p in self.head.named_parameters()}
        self.trainer = Trainer({f"critic.{name}": p for name, p in own.items()}, args.critic_lr,
                               args.micro_tokens)

    def active(self):
        """For `with`: the critic's adapter in place of the policy's."""
        return with_adapter(self.policy, "critic") if self.lora else nullcontext()

    def values(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T): the value before token ids[b, t], where mask[b, t]; 0 elsewhere."""
        states, where = predicting_states(self.policy, self.backbone, ids, mask)
        values = self.head(states.float()).squeeze(-1)  # (N,)
        return values.new_zeros(ids.shape).masked_scatter(where, values)

    def advantages(self, episodes: list[Episode], masks: list[list[int]], logprobs: torch.Tensor
                   ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor], dict]:
        """(whitened advantages (N, T), (values, returns) for `train_on`, statistics) for rewarded episodes
        and the log-probabilities (N, T) of the policy that sampled them."""
        ids, mask = [e.ids for e in episodes], pad(masks).bool()
        with self.active():
            values = self.trainer.score(self.values, ids, masks)
        ref_logprobs = None
        if self.reference is not None:
            with self.reference.active() as frozen:
                ref_logprobs = self.trainer.score(
                    lambda ids, mask: score(frozen, ids, mask, self.args.temperature)[0], ids, masks)
        scores = torch.tensor([e.reward for e in episodes])
        rewards = shaped_rewards(scores, logprobs, ref_logprobs, mask, self.args.kl)
        advantages, returns = gae(rewards, values, mask, GAMMA, LAMBDA)
        count = max(1, int(mask.sum()))
        kl = 0.0 if ref_logprobs is None else (logprobs - ref_logprobs)[mask].sum().item() / count
        return whiten(advantages, mask), (values, returns), {
            "kl": kl, "value": values[mask].sum().item() / count,
            "explained_variance": explained_variance(values, returns, mask)}

    def train_on(self, episodes: list[Episode], masks: list[list[int]], values: torch.Tensor,
                 returns: torch.Tensor
                 ) -> dict:
        """Fit the values to the returns; statistics of the fit (the loss is that of the first update)."""
        chosen = [i for i, mask in enumerate(masks) if 1 in mask]
        trained = sum(sum(masks[i]) for i in chosen)

        def loss_of(group: list[int]) -> tuple[torch.Tensor, dict]:
            group = [chosen[i] for i in group]
            ids, mask = (pad([rows[i] for i in group], self.device)
                         for rows in ([e.ids for e in episodes], masks))
            old, target = (x[group, :ids.shape[1]].to(self.device) for x in (values, returns))
            loss = value_loss(self.values(ids, mask), old, target, mask, VALUE_CLIP)
            return loss * mask.sum() / trained, {}  # normalised once per step

        lengths = [len(episodes[i].ids) for i in chosen]
        prompts = [prompt_of(episodes[i].ids, episodes[i].mask) for i in chosen]
        self.backbone.train()
        with self.active():
            updates = [self.trainer.step(lengths, loss_of, prompts)
                       for _ in range(CRITIC_UPDATES if chosen else 0)]
        self.backbone.eval()
        return {"value_loss": updates[0].get("loss", 0.0) if updates else 0.0,
                "critic_grad_norm": sum(u["grad_norm"] for u in updates) / max(1, len(updates))}
