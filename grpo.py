"""GRPO on episodes that use an interpreter.

    python grpo.py                     the tiny model on this machine, warm start included (7 minutes)
    python grpo.py --model 3b          QLoRA on one GPU
    python grpo.py --algorithm ppo     the same loop with a critic (ppo.py)
    python grpo.py --resume            goes on after Ctrl-C or a crash

One step: draw questions, sample a group of G episodes for each, reward every episode by rule, and compare
within the group. No critic: the group's mean is the baseline.

    advantage    A_i = (r_i - mean(r)) / std(r)                            over the G episodes of a question
    ratio        rho_t = exp(log pi(t) - log pi_old(t))                    pi_old: the policy that sampled
    loss         1/N sum_i 1/|y_i| sum_t [beta KL_t - min(rho_t A_i, clip(rho_t, 1-low, 1+high) A_i)]
    KL           k3: exp(d) - d - 1 with d = log pi_ref(t) - log pi(t)     pi_ref: the policy RL started from

t runs over the tokens that the policy wrote; |y_i| counts just those. The paper (arXiv 2505.21668) prints
pi_ref in the ratio's denominator; that is a slip, it must be pi_old. Its settings: groups of 5, learning rate
1e-6 on all parameters, beta 0.001. k3 is unbiased as a value, not as a gradient: for such a beta, all one."""
import argparse
import importlib
import math
import os
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import runs
from runs import SEED, Run, UserError, command, make_parser, real, run_name, stoppable, whole

AGGREGATES = ("sequence", "token", "constant")  # see policy_loss
CLIP_LOW = 0.2  # how far a ratio may fall
SHARED_WITH_SFT = ("device", "dtype", "quantize", "lora_rank", "answer_format", "sandbox", "sandbox_timeout")


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; defaults come from the preset of --model."""
    parser, values = make_parser(argv, __doc__.split("\n\n")[0])
    rl = values["rl"]
    add = parser.add_argument_group("training").add_argument
    add("--init", choices=("auto", "sft", "base"), default="auto", help="auto: from SFT if there is any")
    add("--sft-run", type=Path, help="folder of the SFT checkpoint (default: runs/MODEL/sft)")
    add("--algorithm", default="grpo", help="grpo, dr-grpo (no std), reinforce (leave-one-out) or ppo")
    add("--reward", default="outcome", help="outcome, shaped (the paper's 2nd), or your MODULE:FUNCTION")
    add("--aggregate", choices=AGGREGATES, default="sequence", help="how the losses of tokens become one")
    add("--lr", type=real(0, 1), default=rl["lr"], help="learning rate")
    add("--questions", type=whole(1, 10_000), default=rl["questions"], help="questions per step")
    add("--samples", type=whole(1, 1024), default=rl["samples"], help="episodes per question (G)")
    add("--steps", type=whole(), default=rl["steps"], help="training steps")
    add("--epochs", type=whole(1, 100), default=1, help="updates from the episodes of a step")
    add("--temperature", type=real(0.01, 10), default=1.0, help="of sampling and of scoring")
    add("--clip-high", type=real(0, 10), default=0.2, help=f"how far a ratio may rise (fall: {CLIP_LOW})")
    add("--dual-clip", type=real(0, 100), default=0.0, help="cap of bad tokens' ratios (3 is usual); 0: off")
    add("--kl", type=real(0, 10), default=rl["kl"], help="coefficient of the KL term; 0: no reference policy")
    add("--importance-cap", type=real(0, 100), default=0.0, help="cap of pi_old / pi_sampler; 0: off")
    add("--train-on-code-output", action="store_true", help="ablation: do not mask results")
    add("--micro-tokens", type=whole(), default=values["micro_tokens"], help="tokens per forward pass")
    add("--no-gradient-checkpointing", dest="gradient_checkpointing", action="store_false",
        default=values["gradient_checkpointing"], help="keep all activations: faster, if memory allows")
    add("--curriculum", choices=("none", "potential", "difficulty"), default="none", help="see curriculum.py")
    add("--seed", type=SEED, default=0, help="of questions and sampling")
    add = parser.add_argument_group("run").add_argument
    add("--eval-questions", type=whole(0, 100_000), default=values["eval_questions"], help="held out")
    add("--save-every", type=whole(), default=10, help="steps between checkpoints")
    add("--out", type=Path, help="run folder (default: runs/MODEL/ALGORITHM)")
    add("--resume", action="store_true", help="go on with an interrupted run")
    add("--overwrite", action="store_true", help="start again in a used folder")
    # What depends on the size of the model but has no flag stands in the settings all the same.
    parser.set_defaults(eval_temperature=values["eval_temperature"], critic_lr=rl["critic_lr"])
    args = parser.parse_args(argv)
    folder = Path("runs") / run_name(args.model)
    args.out, args.sft_run = args.out or folder / args.algorithm, args.sft_run or folder / "sft"
    return args


if __name__ == "__main__":
    command(parse)  # --help and mistakes are answered before torch is imported

import torch

import batches
import evaluate
import sandbox as sandboxes
import sft
from batches import Progress, Trainer, pad
from curriculum import Curriculum, rollout_metrics, warn
from models import check_arguments, device_of, exists, first_line, load_from_args, save, score
from ppo import Critic, Reference
from rollout import Engine, Episode, make_engine
from tasks import draw, select


def group_advantages(rewards: torch.Tensor, group_ids: torch.Tensor, scale: bool = True) -> torch.Tensor:
    """Advantages (N,) of rewards (N,) in their group: (r - mean) / std, or with scale=False r - mean.

    std is the sample standard deviation (n - 1), as in TRL and verl. A group whose rewards are all equal
    gives exactly 0: it carries no information, and rounding noise divided by a tiny std would invent some.

    >>> group_advantages(torch.tensor([1.0, 0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 0, 1, 1]))
    tensor([ 1.5000, -0.5000, -0.5000, -0.5000,  0.0000,  0.0000])
    """
    advantages = torch.zeros_like(rewards)
    for group in group_ids.unique():
        members = group_ids == group
        inside = rewards[members]
        if inside.max() == inside.min():
            continue
        centred = inside - inside.mean()
        advantages[members] = centred / inside.std() if scale else centred
    return advantages


def leave_one_out_advantages(rewards: torch.Tensor, group_ids: torch.Tensor) -> torch.Tensor:
    """Advantages (N,) for REINFORCE: the reward minus the mean reward of the group's *other* members. That is
    n / (n - 1) times the distance to the mean of all n; for a group of one, 0."""
    sizes = (group_ids[:, None] == group_ids).sum(1)
    return group_advantages(rewards, group_ids, scale=False) * sizes / (sizes - 1).clamp_min(1)


# --algorithm -> advantages of a step's rewards; ppo has a critic instead.
ADVANTAGES = {"grpo": group_advantages, "dr-grpo": lambda *both: group_advantages(*both, scale=False),
              "reinforce": leave_one_out_advantages}


def policy_loss(logprobs: torch.Tensor, old_logprobs: torch.Tensor, advantages: torch.Tensor,
                mask: torch.Tensor, *, clip_low: float = 0.2, clip_high: float = 0.2, dual_clip: float = 0.0,
                ref_logprobs: torch.Tensor | None = None, kl_coef: float = 0.0, aggregate: str = "sequence",
                max_length: int | None = None, normalizer: float | None = None) -> tuple[torch.Tensor, dict]:
    """(loss, stats): the clipped surrogate with k3 KL over the trained tokens.

    logprobs, mask (B, T); advantages (B,) or (B, T). stats: sums over the trained tokens, for the log.
    dual_clip: the clip leaves ratios of tokens with a negative advantage unbounded; this bounds them, above 1
    (Ye et al. 2020, arXiv 1912.09729).
    aggregate, and the divisor that `normalizer` replaces, so that micro-batches of one step add up to it:
        "sequence"  mean over each sequence's trained tokens, then over sequences (the paper, GRPO); divisor B
        "token"     mean over all trained tokens (DAPO); divisor: trained tokens
        "constant"  sum over tokens / max_length, mean over sequences (Dr. GRPO); divisor B"""
    if aggregate not in AGGREGATES:
        raise ValueError(f"aggregate must be one of {AGGREGATES}, not {aggregate!r}")
    mask = mask.to(logprobs.dtype)
    advantages = advantages.reshape(len(advantages), -1)  # (B, 1) or (B, T)
    trained = mask > 0
    # Masked places get difference 0 *before* exp: inf * 0 would be NaN, also in the gradient.
    difference = torch.where(trained, logprobs - old_logprobs, 0.0)
    ratio = difference.clamp(-20, 20).exp()
    if dual_clip:
        ratio = torch.where(advantages < 0, ratio.clamp_max(dual_clip), ratio)
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    losses = -torch.minimum(ratio * advantages, clipped * advantages)
    kl = torch.zeros_like(losses)
    if ref_logprobs is not None:
        d = torch.where(trained, ref_logprobs - logprobs, 0.0).clamp(-20, 20)
        kl = d.exp() - d - 1
        losses = losses + kl_coef * kl
    losses = torch.where(trained, losses, 0.0)
    if aggregate == "sequence":
        total, divisor = (losses.sum(1) / mask.sum(1).clamp_min(1)).sum(), len(losses)
    elif aggregate == "token":
        total, divisor = losses.sum(), max(1, int(trained.sum()))
    else:
        total, divisor = losses.sum() / (max_length or losses.shape[1]), len(losses)
    with torch.no_grad():
        pinned = (ratio * advantages > clipped * advantages) & trained
        stats = {"tokens": int(trained.sum()), "clipped": int(pinned.sum()), "kl": (kl * mask).sum().item(),
                 "abs_difference": difference.abs().sum().item()}
    return total / (divisor if normalizer is None else normalizer), stats


def outcome_reward(episode: Episode) -> float:
    """1 for a right final answer, else 0 (the paper's first version)."""
    return float(episode.correct)


def shaped_reward(episode: Episode) -> float:
    """The paper's second version: +1 right; +0.1 if every turn is well-formed, else -0.1; -0.1 beyond 6
    turns. Well-formed: every turn before the last holds a program, and the last one an answer."""
    well_formed = episode.stop == "answer" and all(turn.code is not None for turn in episode.turns[:-1])
    return float(episode.correct) + (0.1 if well_formed else -0.1) - (0.1 if len(episode.turns) > 6 else 0.0)


REWARDS = {"outcome": outcome_reward, "shaped": shaped_reward}


def reward_function(name: str) -> Callable[[Episode], float]:
    """The reward of this name, or MODULE:FUNCTION: a function of an episode in a file of one's own, found
    from the folder one is in. UserError if there is none, and later if it does not give a number."""
    module, _, function = name.partition(":")
    sys.path += [here for here in [os.getcwd()] if here not in sys.path]
    try:
        found = REWARDS.get(name) or getattr(importlib.import_module(module), function)
    except Exception as error:  # noqa: BLE001  (whatever a module of one's own may raise)
        raise UserError(f"--reward {name} is none of {', '.join(REWARDS)}, and no function MODULE:FUNCTION "
                        f"that python finds from here ({first_line(error)})") from None

    def checked(episode: Episode) -> float:
        reward = found(episode)
        if not isinstance(reward, (int, float)) or not math.isfinite(reward):
            raise UserError(f"--reward {name} gave {reward!r} for an episode: a finite number is needed")
        return float(reward)
    return checked


def old_logprobs(policy, trainer: Trainer, episodes: list[Episode], masks: list[list[int]],
                 args: argparse.Namespace) -> torch.Tensor:
    """Log-probabilities (N, T) of all tokens under the policy before its update. The sampler has reported the
    same but for rounding, so its numbers are taken, unless there are none (of results, which it did not
    write) or the difference is to be corrected (--importance-cap)."""
    if not args.train_on_code_output and not args.importance_cap:
        return pad([episode.logprobs for episode in episodes])
    return trainer.score(lambda ids, mask: score(policy, ids, mask, args.temperature)[0],
                         [e.ids for e in episodes], masks)


def importance_weights(old: torch.Tensor, sampled: torch.Tensor, mask: torch.Tensor, cap: float):
    """min(pi_old / pi_sampler, cap) of the tokens in the mask, 1 elsewhere; all (N, T). Truncated importance
    sampling: an engine that rounds differently (bfloat16, a merged copy) has sampled from a slightly
    different policy; its tokens count as often as the trainer would have sampled them."""
    return torch.where(mask.bool(), old - sampled, 0.0).exp().clamp_max(cap)


def train_on(policy, reference: Reference | None, trainer: Trainer, episodes: list[Episode],
             masks: list[list[int]], old: torch.Tensor, advantages: torch.Tensor,
             args: argparse.Namespace) -> dict:
    """Update the policy on these episodes; statistics of the update. advantages (N,) or (N, T). Without KL
    term, episodes of dead groups (advantage 0) are skipped: they would cost a pass and change nothing. They
    stay in the divisor, so the objective is the mean over all N episodes."""
    correction = {}
    if args.importance_cap:
        own, sampled = pad([e.mask for e in episodes]).bool(), pad([e.logprobs for e in episodes])
        weights = importance_weights(old, sampled, own, args.importance_cap)
        advantages = weights * advantages.view(len(episodes), -1)
        correction = {"logprob_error": (old - sampled)[own].abs().mean().item(),
                      "importance_weight": weights[own].mean().item()}
    live = [i for i, mask in enumerate(masks) if 1 in mask and (reference is not None or advantages[i].any())]
    divisor = max(1, sum(map(sum, masks))) if args.aggregate == "token" else len(episodes)
    device = next(policy.parameters()).device

    def loss_of(group: list[int]) -> tuple[torch.Tensor, dict]:
        """The share of some episodes (ids, mask: (B, T)) in the step's loss, and sums for the log."""
        group = [live[i] for i in group]
        ids, mask = (pad([rows[i] for i in group], device) for rows in ([e.ids for e in episodes], masks))
        logprobs, entropy = score(policy, ids, mask, args.temperature)
        reference_logprobs = None
        if reference is not None:
            with torch.no_grad(), reference.active() as frozen:
                reference_logprobs, _ = score(frozen, ids, mask, args.temperature)
        before, advantage = (x.view(len(x), -1)[group, :ids.shape[1]].to(device) for x in (old, advantages))
        loss, sums = policy_loss(
            logprobs, before, advantage, mask, clip_low=CLIP_LOW, clip_high=args.clip_high,
            dual_clip=args.dual_clip, ref_logprobs=reference_logprobs, kl_coef=args.kl,
            aggregate=args.aggregate, max_length=args.episode_tokens, normalizer=divisor)
        return loss, {**sums, "entropy": entropy.sum().item()}

    lengths = [len(episodes[i].ids) for i in live]
    prompts = [batches.prompt_of(episodes[i].ids, episodes[i].mask) for i in live]
    policy.train()
    updates = [trainer.step(lengths, loss_of, prompts) for _ in range(args.epochs if live else 0)]
    policy.eval()
    sums = Counter({name: sum(u[name] for u in updates) for u in updates for name in u})  # "+" drops NaN
    count, tokens = max(1, len(updates)), max(1, sums["tokens"])
    return {"loss": sums["loss"] / count, "grad_norm": sums["grad_norm"] / count,
            "entropy": sums["entropy"] / tokens, "kl": sums["kl"] / tokens,
            "clip_share": sums["clipped"] / tokens, "logprob_error": sums["abs_difference"] / tokens,
            "trained_tokens": sums["tokens"], "skipped": sums["skipped"],
            "micro_tokens": trainer.micro_tokens, **correction}


def train(policy, reference: Reference | None, engine: Engine, run: Run, args: argparse.Namespace) -> bool:
    """The RL loop, resumable after every checkpoint. False if Ctrl-C stopped it early."""
    trainer = Trainer(batches.trained_parameters(policy), args.lr, args.micro_tokens)
    critic = Critic(policy, reference, args) if args.algorithm == "ppo" else None
    parameters = trainer.parameters | (critic.trainer.parameters if critic else {})
    optimizers = trainer.optimizers + (critic.trainer.optimizers if critic else [])
    start = batches.restore(run, parameters, optimizers)
    curriculum, streaks = Curriculum(args, engine, run), Counter()
    finished, reward = start >= args.steps, reward_function(args.reward)
    with stoppable() as stopped, Progress(args.steps, args.algorithm.upper(), "step", start) as bar:
        for step in range(start, args.steps):
            began, waited = time.perf_counter(), engine.seconds_waiting
            questions = curriculum.questions(step)
            episodes = batches.rollouts(engine, questions, args.samples, temperature=args.temperature,
                                seed=args.seed * 1_000_003 + step)
            written = time.perf_counter()
            for episode in episodes:
                episode.reward = reward(episode)
            groups = torch.arange(len(questions)).repeat_interleave(args.samples)
            metrics = {"step": step, "stage": curriculum.stage(step), **rollout_metrics(episodes, groups)}

            # What is trained: the policy's own tokens, or (ablation) everything after the prompt.
            masks = [batches.training_mask(e.mask, args.train_on_code_output) for e in episodes]
            old = old_logprobs(policy, trainer, episodes, masks, args)
            if critic:  # PPO's KL is in the rewards, so its loss has no reference
                advantages, values, numbers = critic.advantages(episodes, masks, old)
                numbers |= critic.train_on(episodes, masks, *values)
            else:
                advantages = ADVANTAGES[args.algorithm](torch.tensor([e.reward for e in episodes]), groups)
                numbers = {}
            metrics |= train_on(policy, None if critic else reference, trainer, episodes, masks, old,
                                advantages, args)

            ended = time.perf_counter()
            metrics |= {**numbers, "seconds_rollout": written - began, "seconds_training": ended - written,
                        "seconds_sandbox": engine.seconds_waiting - waited,
                        "tokens_per_second": metrics["sampled_tokens"] / (written - began)}
            run.append("metrics.jsonl", [metrics])
            warn(metrics, streaks)
            curriculum.record(step, episodes, advantages)
            bar.set_postfix(reward=f"{metrics['reward']:.2f}", code=f"{metrics['code_share']:.2f}",
                            dead=f"{metrics['dead_groups']:.2f}", tok_s=round(metrics["tokens_per_second"]))
            bar.update()
            finished, stop = step + 1 == args.steps, any(batches.gather([stopped()]))
            if (step + 1) % args.save_every == 0 or finished or stop:
                batches.save_checkpoint(run, parameters, optimizers, step + 1)
            if stop:
                break
    return finished


def starting_point(args: argparse.Namespace) -> Path | None:
    """The SFT folder to start from; None for a cold start. The tiny model's usual one is made now."""
    if args.init == "base" or args.random_weights:
        return None
    if exists(args.sft_run):
        return args.sft_run
    usual = args.sft_run == Path("runs") / run_name(args.model) / "sft"
    if args.model == "tiny" and usual:
        resume = ["--resume"] if runs.settings_of_run(args.sft_run) else []
        same = [f"--{name.replace('_', '-')}={getattr(args, name)}" for name in SHARED_WITH_SFT]
        print(f"No warm start in {args.sft_run} yet: making one now (sft.py, about 4 minutes, once).")
        if not sft.main(["--model", "tiny", "--out", str(args.sft_run), *same, *resume]):
            raise SystemExit(130)
        return args.sft_run
    if args.init == "sft" or not usual:
        raise UserError(f"no SFT checkpoint in {args.sft_run}: python sft.py --model {args.model} makes one")
    print(f"No SFT checkpoint in {args.sft_run}: a cold start. (The paper: a warm start matters most.)")
    return None


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot work, before anything is made or loaded."""
    if args.algorithm not in (*ADVANTAGES, "ppo"):
        raise UserError(f"--algorithm {args.algorithm} is none of {', '.join(ADVANTAGES)}, ppo")
    reward_function(args.reward)
    check_arguments(args)


def main(argv: list[str] | None = None) -> dict | None:
    """Warm start, evaluate, train, evaluate, show. Bad input: UserError."""
    args = parse(argv)
    check(args)
    select(args.tasks)
    batches.join_processes(device_of(args.device))
    run = batches.first_then_others(lambda: Run(args.out, vars(args), args.resume, args.overwrite))
    held_out = draw(select(args.tasks), "eval", args.eval_questions, args.levels)
    warm = batches.gather([starting_point(args)])[0]
    policy, tokenizer = load_from_args(args, warm)
    reference = Reference(policy) if args.kl else None
    results, name = {}, args.algorithm.upper()
    with sandboxes.from_args(args) as box:
        engine = make_engine(policy, tokenizer, box, args)
        run.begin()
        if held_out:
            results["after SFT" if warm else "before"], before = evaluate.kept(
                engine, held_out, run.folder / "before.jsonl", args.eval_temperature)
            run.write("before-after.json", results)
        if not train(policy, reference, engine, run, args):
            print(f"Stopped; {args.out} keeps the finished steps. The same command with --resume goes on.")
            raise SystemExit(130)
        save(policy, tokenizer, run.folder)
        if not held_out:
            print(f"{name}: {args.steps} steps; saved in {run.folder}")
            return None
        results[f"after {name}"], after = evaluate.kept(
            engine, held_out, run.folder / "after.jsonl", args.eval_temperature, args.steps)
    run.write("before-after.json", results)
    telling = min(zip(before, after), key=lambda pair: (pair[0].correct - pair[1].correct,
                                                        (pair[0].calls > 0) - (pair[1].calls > 0)))
    print(f"\n{evaluate.sheet(results)}\n\nOne question before and after {name}:\n{evaluate.show(*telling)}\n"
          f"\nSaved in {run.folder}. Next:\n  python r1ci.py report {run.folder}\n  python r1ci.py ask --run "
          f"{run.folder} {shlex.quote(telling[0].question.prompt)}")
    return results


if __name__ == "__main__":
    command(main)
