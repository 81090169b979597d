"""PPO: a critic in the place of GRPO's group mean. Loop, policy loss, rewards and flags are those of grpo.py.

    python ppo.py                      the same as: python grpo.py --algorithm ppo

For the own tokens of an episode, t = 1 .. n; tokens of prompts and results do not exist here, t + 1 is the
next *own* token, whatever stood between:

    reward       r_t = -beta (log pi(t) - log pi_ref(t)), and the episode's score on top of r_n
    value        V_t: what the critic expects from here on, read before token t is written
    GAE          delta_t = r_t + gamma V_{t+1} - V_t,  A_t = delta_t + gamma lambda A_{t+1},  V_{n+1} = 0
    return       R_t = A_t + V_t, what the critic is to predict
    whitening    A_t minus mean, divided by std, over all trained tokens of the step

An interpreter's output is nothing that the policy did, so it is no step of the recursion: a value read inside
it would leak into the advantages of real tokens. The paper (v2) reports PPO about equal to GRPO and gives no settings;
gamma = lambda = 1 (advantage = return - value) and value clip 0.5 are the Search-R1 script's.

The critic may not share trained weights with the policy: the value loss would push the policy about. So with
LoRA it is a second adapter on the shared frozen base (small: one GPU holds both), with full parameters a copy
of the backbone (which doubles the memory; that is the price of training all of them). Both start as copies of
the warm start, with a value head of zeros: at first every value is 0, and the advantages are the scores minus
their mean.
"""
import argparse
import copy
import random
import sys
from collections.abc import Callable
from contextlib import contextmanager

import torch

import models
import parallel
from copies import Reference
from flags import positive
from memory import accumulate, micro_batches
from models import backbone, can_share, predicting_states, score, unwrap
from rollout import Episode
from runs import command
from sft import pad


# ---------------------------------------------------------------------------------- the algorithm, as tensors
def shaped_rewards(scores: torch.Tensor, logprobs: torch.Tensor, ref_logprobs: torch.Tensor | None,
                   mask: torch.Tensor, kl_coef: float) -> torch.Tensor:
    """Rewards (B, T) of single tokens: -kl_coef (logprobs - ref_logprobs) on trained ones, the episode's score
    (B,) on the last of them; 0 elsewhere. A sequence without trained tokens gets no reward."""
    trained = mask.bool()
    rewards = torch.zeros_like(logprobs)
    if ref_logprobs is not None:
        rewards = torch.where(trained, -kl_coef * (logprobs - ref_logprobs), rewards)
    last = trained & (trained.flip(1).cumsum(1).flip(1) == 1)
    return torch.where(last, rewards + scores[:, None], rewards)


def gae(rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, lam: float
        ) -> tuple[torch.Tensor, torch.Tensor]:
    """(advantages, returns), all (B, T), by a recursion over trained tokens only; 0 elsewhere.

    What stands at other places is never read, be it NaN. After the last trained token nothing is to come (also
    for an episode cut at a limit: its score is what it got).
    """
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
    """Advantages (B, T) with mean 0 and std 1 over the trained tokens; all 0 if they are all equal."""
    trained = mask.bool()
    inside = advantages[trained]
    if len(inside) == 0 or inside.max() == inside.min():
        return torch.zeros_like(advantages)
    return torch.where(trained, (advantages - inside.mean()) / (inside.std() + 1e-8), 0.0)


def value_loss(values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor,
               clip: float) -> torch.Tensor:
    """Half the mean squared error over trained tokens: a scalar. Of the value and the value kept within `clip`
    of what it was at the rollout, the worse one counts, so that one step cannot carry it far."""
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


# ------------------------------------------------------------------------------------------------- the critic
def families(model, episodes: list[Episode]) -> list[tuple] | None:
    """(question, prompt length) of each episode, for micro-batches of one question each; None if prompts are short, or
    few episodes have one in common, or this backbone cannot read it once."""
    names = [((e.question.task, e.question.level, e.question.seed), e.mask.index(1) if 1 in e.mask else len(e.ids))
             for e in episodes]
    if (not names or len(names) < 3 * len(set(names)) or not can_share(model)
            or min(length for _, length in names) <= models.SHORTEST_SHARED):
        return None
    return names


def in_batches(function: Callable, episodes: list[Episode], masks: list[list[int]], micro_tokens: int, device, model
               ) -> torch.Tensor:
    """function(ids, mask) -> (B, T) of all episodes, without gradient: (N, longest), on the CPU. model: the backbone
    that the function runs."""
    result = torch.zeros(len(episodes), max(len(e.ids) for e in episodes))
    for group in micro_batches([len(e.ids) for e in episodes], micro_tokens, families(model, episodes)):
        with torch.no_grad():
            ids = pad([episodes[i].ids for i in group], device)
            part = function(ids, pad([masks[i] for i in group], device))
        result[group, :part.shape[1]] = part.cpu()
    return result


class Critic:
    """V(what stands before token t): a backbone of its own (or an adapter of its own) and a linear head."""

    def __init__(self, policy, args: argparse.Namespace):
        self.policy, self.args, self.lora = policy, args, hasattr(policy, "peft_config")
        if self.lora:
            policy.add_adapter("critic", copy.deepcopy(policy.peft_config["default"]))
            weights = dict(policy.named_parameters())
            with torch.no_grad():
                for name, weight in weights.items():
                    if ".critic." in name:
                        weight.copy_(weights[name.replace(".critic.", ".default.")])
            policy.set_adapter("default")
            self.backbone = backbone(policy)
        else:
            self.backbone = copy.deepcopy(backbone(policy))
        self.device = next(policy.parameters()).device
        self.head = torch.nn.Linear(unwrap(policy).config.hidden_size, 1, device=self.device)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        self.optimizer = torch.optim.AdamW(self.parameters().values(), lr=args.critic_lr, betas=(0.9, 0.95),
                                           weight_decay=0.0)

    def parameters(self) -> dict[str, torch.Tensor]:
        """Name -> parameter, of everything the critic trains (and nothing of the policy)."""
        own = {name: p for name, p in self.backbone.named_parameters() if ".critic." in name or not self.lora}
        own |= {f"head.{name}": p for name, p in self.head.named_parameters()}
        return {f"critic.{name}": p for name, p in own.items()}

    @contextmanager
    def active(self):
        """With LoRA: the critic's adapter instead of the policy's. Backward belongs inside, too: gradient
        checkpointing runs the forward pass again."""
        if not self.lora:
            yield
            return
        self.policy.set_adapter("critic")
        try:
            yield
        finally:
            self.policy.set_adapter("default")

    def values(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, T): the value before token ids[b, t], where mask[b, t]; 0 elsewhere."""
        states, where = predicting_states(self.policy, self.backbone, ids, mask)
        values = self.head(states.float()).squeeze(-1)  # (N,)
        return values.new_zeros(ids.shape).masked_scatter(where, values)

    def advantages(self, reference: Reference | None, episodes: list[Episode], masks: list[list[int]],
                   logprobs: torch.Tensor) -> tuple[torch.Tensor, tuple, dict]:
        """(whitened advantages (N, T), what `train_on` needs, statistics) for rewarded episodes and the
        log-probabilities (N, T) of the policy that sampled them."""
        def of(function):
            return in_batches(function, episodes, masks, self.args.micro_tokens, self.device, self.backbone)

        mask, ref_logprobs = pad(masks).bool(), None
        with self.active():
            values = of(self.values)
        if reference is not None:
            with reference.active() as frozen:
                ref_logprobs = of(lambda ids, mask: score(frozen, ids, mask, self.args.temperature)[0])
        scores = torch.tensor([e.reward for e in episodes])
        rewards = shaped_rewards(scores, logprobs, ref_logprobs, mask, self.args.kl)
        advantages, returns = gae(rewards, values, mask, self.args.gamma, self.args.lam)
        count = max(1, int(mask.sum()))
        kl = 0.0 if ref_logprobs is None else (logprobs - ref_logprobs)[mask].sum().item() / count
        return whiten(advantages, mask), (values, returns, masks), {
            "kl": kl, "value": values[mask].sum().item() / count,
            "explained_variance": explained_variance(values, returns, mask)}

    def train_on(self, episodes: list[Episode], values: torch.Tensor, returns: torch.Tensor,
                 masks: list[list[int]]) -> dict:
        """Fit the values to the returns; statistics of the fit (the loss is that of the first pass)."""
        args, losses, norms = self.args, [], []
        order, parameters = [i for i, mask in enumerate(masks) if 1 in mask], list(self.parameters().values())
        self.backbone.train()
        with self.active():
            for epoch in range(args.critic_epochs):
                random.Random(f"critic/{args.seed}/{epoch}").shuffle(order)
                size = max(1, -(-len(order) // args.minibatches))
                for start in range(0, len(order), size):
                    chosen = order[start:start + size]
                    trained = sum(sum(masks[i]) for i in chosen)
                    mine = chosen[parallel.rank()::parallel.size()]

                    def backward(group: list[int], mine=mine, trained=trained) -> dict:
                        group = [mine[i] for i in group]
                        ids, mask = (pad(rows, self.device) for rows in ([episodes[i].ids for i in group],
                                                                         [masks[i] for i in group]))
                        old, target = (x[group, :ids.shape[1]].to(self.device) for x in (values, returns))
                        loss = value_loss(self.values(ids, mask), old, target, mask, args.value_clip)
                        loss = loss * mask.sum() / trained  # normalised once per step
                        loss.backward()
                        return {"loss": loss.item()}

                    sums, args.micro_tokens = accumulate(
                        [len(episodes[i].ids) for i in mine], args.micro_tokens, backward, parameters,
                        families(self.backbone, [episodes[i] for i in mine]))
                    parallel.sum_gradients(parameters)
                    losses.append(parallel.totals(sums).get("loss", 0.0))
                    norm = torch.nn.utils.clip_grad_norm_(parameters, args.max_grad_norm)
                    norms.append(norm.item())
                    self.optimizer.step()
                    self.optimizer.zero_grad(set_to_none=True)
        self.backbone.eval()
        first, updates = losses[:args.minibatches], max(1, len(norms))
        return {"value_loss": sum(first) / max(1, len(first)), "critic_grad_norm": sum(norms) / updates}


def add_arguments(parser: argparse.ArgumentParser, lr: float) -> None:
    """The flags that only PPO has; lr: the policy's default."""
    group = parser.add_argument_group("PPO")
    group.add_argument("--critic-lr", type=float, default=lr, help="learning rate of the critic")
    group.add_argument("--critic-epochs", type=positive, default=2, help="passes of the critic over a step")
    group.add_argument("--gamma", type=float, default=1.0, help="discount per own token")
    group.add_argument("--lam", type=float, default=1.0, help="lambda of GAE: 1 trusts returns, 0 the critic")
    group.add_argument("--value-clip", type=float, default=0.5, help="how far a value may move in one step")


if __name__ == "__main__":
    import grpo  # it imports this module, so only the command may import it
    command(lambda: grpo.main(["--algorithm", "ppo", *sys.argv[1:]]))
