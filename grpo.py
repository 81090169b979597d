"""GRPO on episodes that use an interpreter.

    python grpo.py                     the tiny model on this machine, warm start included (about 5 minutes)
    python grpo.py --model 3b          QLoRA on one GPU
    python grpo.py --algorithm ppo     the same loop with a critic (ppo.py); reinforce: leave-one-out baseline
    python grpo.py --resume            goes on after Ctrl-C or a crash
    torchrun --nproc_per_node 4 grpo.py --model 7b                        on four GPUs (parallel.py)

One step: draw questions, sample a group of G episodes for each, reward every episode by rule, and compare within the
group. No critic: the group's mean is the baseline.

    advantage    A_i = (r_i - mean(r)) / std(r)                            over the G episodes of a question
    ratio        rho_t = exp(log pi(t) - log pi_old(t))                    pi_old: the policy that sampled
    loss         - 1/N sum_i 1/|y_i| sum_t min(rho_t A_i, clip(rho_t, 1-low, 1+high) A_i) + beta KL_t
    KL           k3: exp(d) - d - 1 with d = log pi_ref(t) - log pi(t)     pi_ref: the policy RL started from

t runs over the tokens that the policy wrote; |y_i| counts just those. The paper (arXiv 2505.21668) prints pi_ref in
the ratio's denominator; that is a slip of the formula, it must be pi_old. Its settings: groups of 5, learning rate
1e-6 on all parameters, beta 0.001. k3 is unbiased as a value, not as a gradient; with one update
per batch and beta this small the difference does not matter, and it is what the paper's code base does.
"""
import argparse
import random
import sys
import time
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

import curriculum
import evaluate
import parallel
from tools import plan
import ppo
from experiments import report
import sandbox as sandboxes
import sft
from chat import ChatError
from copies import Reference
from flags import make_parser, positive
from memory import accumulate
from models import ModelError, backbone, check_arguments, exists, load, run_name, score
from ppo import Critic, families, in_batches
from rollout import STOPS, Engine, Episode
from runs import Run, RunError, command, fail, stoppable, trained_parameters
from sft import make_optimizers, pad, training_mask
from tasks import TaskError, draw, select


# ------------------------------------------------------------------------------------------ the algorithm, as tensors
def group_advantages(rewards: torch.Tensor, group_ids: torch.Tensor, scale: bool = True) -> torch.Tensor:
    """Advantages (N,) of rewards (N,) relative to their group: (r - mean) / std, or r - mean with scale=False.

    std is the sample standard deviation (n - 1), as in TRL and verl. A group whose rewards are all equal (also a group
    of one) gives exactly 0: it carries no information, and dividing rounding noise by a tiny std would invent some.
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
    """Advantages (N,) for REINFORCE: the reward minus the mean reward of the group's *other* members.

    That is n / (n - 1) times the distance to the mean of all n; for a group of one, 0.
    """
    sizes = (group_ids[:, None] == group_ids).sum(1)
    return group_advantages(rewards, group_ids, scale=False) * sizes / (sizes - 1).clamp_min(1)


ADVANTAGES = {"std": group_advantages, "mean": partial(group_advantages, scale=False),
              "leave-one-out": leave_one_out_advantages}


def policy_loss(logprobs: torch.Tensor, old_logprobs: torch.Tensor, advantages: torch.Tensor, mask: torch.Tensor, *,
                clip_low: float = 0.2, clip_high: float = 0.2, ref_logprobs: torch.Tensor | None = None,
                kl_coef: float = 0.0, aggregate: str = "sequence", max_length: int | None = None,
                normalizer: float | None = None) -> tuple[torch.Tensor, dict]:
    """(loss, stats): the clipped surrogate with k3 KL over the trained tokens. logprobs, mask (B, T); advantages (B,)
    or (B, T). A gradient step on the loss raises the probability of tokens with positive advantage.

    aggregate, and the divisor that `normalizer` replaces (so that micro-batches of one step add up to the step):
        "sequence"  mean over each sequence's trained tokens, then over sequences (the paper, GRPO); divisor B
        "token"     mean over all trained tokens (DAPO); divisor: trained tokens
        "constant"  sum over tokens / max_length, mean over sequences (Dr. GRPO); divisor B
    Sequences without trained tokens add nothing. stats: sums over trained tokens and their count, for the log.
    """
    if aggregate not in ("sequence", "token", "constant"):
        raise ValueError(f"aggregate must be sequence, token or constant, not {aggregate!r}")
    mask = mask.to(logprobs.dtype)
    if advantages.ndim == 1:
        advantages = advantages[:, None]
    trained = mask > 0
    # Masked places get difference 0 *before* exp: inf * 0 would be NaN, also in the gradient.
    difference = torch.where(trained, logprobs - old_logprobs, 0.0)
    ratio = difference.exp()
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


# ------------------------------------------------------------------------------------------------------ rewards
def outcome_reward(episode: Episode) -> float:
    """1 for a right final answer, else 0 (the paper's first version)."""
    return float(episode.correct)


def shaped_reward(episode: Episode) -> float:
    """The paper's second version: +1 right, +0.1 if every turn is well-formed and -0.1 otherwise, -0.1 beyond 6 turns.

    Well-formed: every turn before the last holds a program, and the last one an answer.
    """
    well_formed = episode.stop == "answer" and all(turn.code is not None for turn in episode.turns[:-1])
    return float(episode.correct) + (0.1 if well_formed else -0.1) - (0.1 if len(episode.turns) > 6 else 0.0)


REWARDS = {"outcome": outcome_reward, "shaped": shaped_reward}


# ------------------------------------------------------------------------------------------------------ one step
def trained_tokens(episode: Episode, args) -> list[int]:
    """The mask that rules everything in training: the policy's tokens; none of an episode that is left out."""
    if 1 not in episode.mask or (args.truncated == "drop" and episode.stop == "length"):
        return [0] * len(episode.mask)
    return training_mask(episode.mask, args.train_on_code_output)


def old_logprobs(policy, episodes: list[Episode], masks: list[list[int]], args) -> tuple[torch.Tensor, torch.Tensor]:
    """(old, sampled): log-probabilities (N, T) under the policy before its update, and those the sampler reported.

    They are the same but for rounding, so the sampler's are taken for both, unless there are none (results that the
    sampler did not write) or the difference is to be corrected (--importance-cap).
    """
    sampled = torch.nn.utils.rnn.pad_sequence([torch.tensor(e.logprobs) for e in episodes], True)
    if not args.train_on_code_output and not args.importance_cap:
        return sampled, sampled
    return in_batches(lambda ids, mask: score(policy, ids, mask, args.temperature)[0], episodes, masks,
                      args.micro_tokens, next(policy.parameters()).device, backbone(policy)), sampled


def importance_weights(old: torch.Tensor, sampled: torch.Tensor, mask: torch.Tensor, cap: float) -> torch.Tensor:
    """min(pi_old / pi_sampler, cap) of the tokens in the mask, 1 elsewhere; all (N, T).

    Truncated importance sampling: where the engine's numbers differ from the trainer's (bfloat16, a merged copy), an
    episode was sampled from a slightly different policy; its tokens count as often as the trainer would sample them.
    """
    return torch.where(mask.bool(), old - sampled, 0.0).exp().clamp_max(cap)


def train_on(policy, reference: Reference | None, optimizer, episodes: list[Episode], advantages: torch.Tensor, args,
             scored: tuple[torch.Tensor, torch.Tensor] | None = None) -> dict:
    """Update the policy on these episodes, advantages (N,) or (N, T); statistics of the update.

    scored: what `old_logprobs` gives for them, if it is known already.

    Episodes of dead groups (advantage 0) are skipped: they would cost a forward and a backward pass and change
    nothing but the KL term. They stay in the divisor, so the objective is the mean over all N episodes.
    """
    masks = [trained_tokens(episode, args) for episode in episodes]
    old, sampled = scored or old_logprobs(policy, episodes, masks, args)
    correction = {}
    if args.importance_cap:
        sampled_tokens = pad([episode.mask for episode in episodes])
        weights = importance_weights(old, sampled, sampled_tokens, args.importance_cap)
        advantages = weights * (advantages[:, None] if advantages.ndim == 1 else advantages)
        correction = {"logprob_error": (old - sampled)[sampled_tokens.bool()].abs().mean().item(),
                      "importance_weight": weights[sampled_tokens.bool()].mean().item()}
    live = [i for i, mask in enumerate(masks) if 1 in mask and advantages[i].any()]
    dropped = sum(args.truncated == "drop" and e.stop == "length" for e in episodes)
    count = sum(map(sum, masks)) if args.aggregate == "token" else len(episodes) - dropped
    totals = {"loss": 0.0, "tokens": 0, "clipped": 0, "kl": 0.0, "abs_difference": 0.0, "entropy": 0.0, "grad_norm": 0.0}
    # Several GPUs: each trains on its share, and the gradients are added up.
    own = set(sorted(live, key=lambda i: len(episodes[i].ids))[parallel.rank()::parallel.size()])
    parameters = list(trained_parameters(policy).values())
    policy.train()
    updates = 0
    for epoch in range(args.epochs):
        order = list(live)
        random.Random(f"{args.seed}/{epoch}").shuffle(order)
        size = -(-len(order) // args.minibatches) if order else 1
        for start in range(0, len(order), size):
            chosen = order[start:start + size]
            divisor = max(1, count) * len(chosen) / len(live)  # a mini-batch is this share of the step
            mine = [i for i in chosen if i in own]

            def backward(group: list[int], mine=mine, divisor=divisor) -> dict:
                group = [mine[i] for i in group]
                loss, stats = batch_loss(policy, reference, [episodes[i].ids for i in group],
                                         [masks[i] for i in group], old[group], advantages[group], divisor, args)
                loss.backward()
                return stats

            sums, args.micro_tokens = accumulate([len(episodes[i].ids) for i in mine], args.micro_tokens, backward,
                                                 parameters, families(backbone(policy), [episodes[i] for i in mine]))
            parallel.sum_gradients(parameters)
            for name, value in parallel.totals(sums).items():
                totals[name] += value
            norm = torch.nn.utils.clip_grad_norm_(parameters, args.max_grad_norm)
            for one in optimizer:
                one.step()
                one.zero_grad(set_to_none=True)
            totals["grad_norm"] += norm.item()
            updates += 1
    policy.eval()
    tokens, updates = max(1, totals["tokens"]), max(1, updates)
    return {"loss": totals["loss"] / updates, "entropy": totals["entropy"] / tokens, "kl": totals["kl"] / tokens,
            "clip_share": totals["clipped"] / tokens, "logprob_error": totals["abs_difference"] / tokens,
            "grad_norm": totals["grad_norm"] / updates, "trained_tokens": totals["tokens"],
            "micro_tokens": args.micro_tokens, **correction}


def batch_loss(policy, reference: Reference | None, ids: list[list[int]], masks: list[list[int]],
               old: torch.Tensor, advantages: torch.Tensor, divisor: float, args) -> tuple[torch.Tensor, dict]:
    """(loss, sums for the log) of one micro-batch: its part of the step's loss. old (B, T or more)."""
    device = next(policy.parameters()).device
    ids, mask = pad(ids, device), pad(masks, device)  # (B, T)
    width = ids.shape[1]
    logprobs, entropy = score(policy, ids, mask, args.temperature)
    reference_logprobs = None
    if reference is not None:
        with torch.no_grad(), reference.active() as frozen:
            reference_logprobs, _ = score(frozen, ids, mask, args.temperature)
    if advantages.ndim == 2:
        advantages = advantages[:, :width]
    loss, stats = policy_loss(
        logprobs, old[:, :width].to(device), advantages.to(device), mask, clip_low=args.clip_low,
        clip_high=args.clip_high, ref_logprobs=reference_logprobs, kl_coef=args.kl, aggregate=args.aggregate,
        max_length=args.episode_tokens, normalizer=divisor)
    return loss, {**stats, "loss": loss.item(), "entropy": entropy.sum().item()}


def rollout_metrics(episodes: list[Episode], groups: torch.Tensor) -> dict:
    """What the episodes of a step were like; a step that cannot learn says so here."""
    count = len(episodes)
    programs = [turn for e in episodes for turn in e.turns if turn.status]
    rewards = torch.tensor([e.reward for e in episodes])
    inside = [rewards[groups == g] for g in groups.unique()]
    dead = sum(bool(group.max() == group.min()) for group in inside) / len(inside)
    sampled = sum(sum(e.mask) for e in episodes)
    return {"reward": sum(e.reward for e in episodes) / count, "accuracy": sum(e.correct for e in episodes) / count,
            "dead_groups": dead, **{f"stop_{stop}": sum(e.stop == stop for e in episodes) / count for stop in STOPS},
            "calls": len(programs) / count, "code_share": sum(e.calls > 0 for e in episodes) / count,
            "code_errors": sum(turn.status != "ok" for turn in programs) / max(1, len(programs)),
            "sampled_tokens": sampled, "tokens_per_episode": sampled / count,
            "turns_over_6": sum(len(e.turns) > 6 for e in episodes) / count,
            "program_seconds": sum(turn.seconds for turn in programs)}


def update(policy, reference: Reference | None, critic: Critic | None, optimizer, episodes: list[Episode],
           groups: torch.Tensor, args) -> tuple[torch.Tensor, dict]:
    """(advantages, metrics) of one step: the only place where the algorithms differ."""
    if critic is None:
        advantages = ADVANTAGES[args.advantage](torch.tensor([e.reward for e in episodes]), groups)
        return advantages, train_on(policy, reference, optimizer, episodes, advantages, args)
    masks = [trained_tokens(episode, args) for episode in episodes]
    scored = old_logprobs(policy, episodes, masks, args)
    advantages, targets, metrics = critic.advantages(reference, episodes, masks, scored[0])
    # PPO's KL is in the rewards already, so its loss has no reference.
    metrics = train_on(policy, None, optimizer, episodes, advantages, args, scored) | metrics
    return advantages, metrics | critic.train_on(episodes, *targets)


def train(policy, reference: Reference | None, engine: Engine, run: Run, args) -> bool:
    """The RL loop, resumable after every checkpoint. False if Ctrl-C stopped it early."""
    optimizer = make_optimizers(policy, "adamw", args.lr)
    critic = Critic(policy, args) if args.algorithm == "ppo" else None
    trained, optimizers = trained_parameters(policy), list(optimizer)
    if critic:
        trained, optimizers = trained | critic.parameters(), [*optimizer, critic.optimizer]
    start = run.restore(trained, optimizers)
    source = curriculum.Source(args, engine, run)
    bar = tqdm(total=args.steps, initial=start, desc=args.algorithm.upper(), unit="step", disable=parallel.rank() > 0)
    finished = start >= args.steps
    with stoppable() as stopped:
        for step in range(start, args.steps):
            began = time.perf_counter()
            waited = engine.seconds_waiting
            questions = source.questions(step)
            episodes = parallel.rollouts(engine, questions, args.samples, temperature=args.temperature,
                                         seed=args.seed * 1_000_003 + step)
            sampled = time.perf_counter()
            for episode in episodes:
                episode.reward = REWARDS[args.reward](episode)
            groups = torch.arange(len(questions)).repeat_interleave(args.samples)
            metrics = {"step": step, "stage": source.stage(step), **rollout_metrics(episodes, groups)}
            advantages, more = update(policy, reference, critic, optimizer, episodes, groups, args)
            ended = time.perf_counter()
            metrics |= {**more, "seconds_rollout": sampled - began, "seconds_training": ended - sampled,
                        "seconds_sandbox": engine.seconds_waiting - waited,
                        "tokens_per_second": metrics["sampled_tokens"] / (sampled - began)}
            run.log(metrics)
            source.record(step, episodes)
            run.log_episodes([{"step": step, "advantage": mean_advantage(advantages[i], episodes[i]),
                               **episodes[i].record(engine.chat)}
                              for i in logged(len(episodes), step, args)])
            bar.update()
            bar.set_postfix(reward=f"{metrics['reward']:.2f}", code=f"{metrics['code_share']:.2f}",
                            calls=f"{metrics['calls']:.2f}", dead=f"{metrics['dead_groups']:.2f}",
                            tok_s=f"{metrics['tokens_per_second']:.0f}")
            finished, stop = step + 1 == args.steps, parallel.any_rank(stopped())
            if (step + 1) % args.save_every == 0 or finished or stop:
                run.keep_best(policy, engine.tokenizer, step + 1)
                run.checkpoint(trained, optimizers, step + 1)
                report.refresh(run, engine.tokenizer)
            if stop:
                break
    bar.close()
    return finished


def logged(count: int, step: int, args) -> list[int]:
    """Which of a step's episodes are logged: drawn, so that over the steps all tasks come up, not always the same."""
    return sorted(random.Random(f"log/{args.seed}/{step}").sample(range(count), min(count, args.log_episodes)))


def mean_advantage(advantage: torch.Tensor, episode: Episode) -> float:
    """An episode's advantage () or (T,) as one number for the log: PPO's is the mean over its own tokens."""
    if advantage.ndim:
        own = advantage[:len(episode.mask)][torch.tensor(episode.mask).bool()]
        return own.mean().item() if len(own) else 0.0
    return advantage.item()


# --------------------------------------------------------------------------------------------------- the command
def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; defaults come from the preset of --model."""
    parser, values = make_parser(argv, __doc__.split("\n\n")[0])
    settings = values["rl"]
    group = parser.add_argument_group("training")
    group.add_argument("--init", choices=("auto", "sft", "base"), default="auto", help="start from the SFT checkpoint "
                       "or cold from the base model; auto: SFT if there is one (tiny makes one)")
    group.add_argument("--algorithm", choices=("grpo", "ppo", "reinforce"), default="grpo",
                       help="ppo: a critic is the baseline; reinforce: --advantage leave-one-out")
    group.add_argument("--lr", type=float, default=settings["lr"], help="learning rate")
    group.add_argument("--questions", type=positive, default=settings["questions"], help="questions per step")
    group.add_argument("--samples", type=positive, default=settings["samples"], help="episodes per question (G)")
    group.add_argument("--steps", type=positive, default=settings["steps"])
    group.add_argument("--epochs", type=positive, default=1, help="passes over each step's episodes")
    group.add_argument("--minibatches", type=positive, default=1, help="updates per pass")
    group.add_argument("--temperature", type=float, default=1.0, help="of sampling and of scoring")
    group.add_argument("--reward", choices=tuple(REWARDS), default="outcome")
    group.add_argument("--advantage", choices=tuple(ADVANTAGES), default="std", help="of GRPO: reward minus the "
                       "group's mean, divided by its std or not; or minus the mean of the others")
    group.add_argument("--aggregate", choices=("sequence", "token", "constant"), default="sequence")
    group.add_argument("--clip-low", type=float, default=0.2)
    group.add_argument("--clip-high", type=float, default=0.2)
    group.add_argument("--kl", type=float, default=settings["kl"], help="coefficient of the KL term; 0: no reference")
    group.add_argument("--importance-cap", type=float, default=0.0, help="weigh tokens by pi_old / pi_sampler, at most "
                       "this (2 is usual): corrects for rounding in rollouts; 0: off")
    group.add_argument("--truncated", choices=("keep", "drop"), default="keep", help="episodes cut at a length limit: "
                       "keep them with their reward, or leave them out of the loss")
    group.add_argument("--train-on-code-output", action="store_true", help="ablation: do not mask results")
    group.add_argument("--max-grad-norm", type=float, default=1.0)
    group.add_argument("--micro-tokens", type=positive, default=values["micro_tokens"], help="tokens per forward pass")
    group.add_argument("--no-gradient-checkpointing", dest="gradient_checkpointing", action="store_false",
                       default=values["gradient_checkpointing"])
    group.add_argument("--seed", type=int, default=0)
    ppo.add_arguments(parser, settings["critic_lr"])
    curriculum.add_arguments(parser, values)
    group = parser.add_argument_group("run")
    group.add_argument("--eval-questions", type=int, default=values["eval_questions"], help="before and after; 0: none")
    group.add_argument("--eval-temperature", type=float, default=values["eval_temperature"])
    group.add_argument("--log-episodes", type=positive, default=4, help="episodes per step written to episodes.jsonl")
    group.add_argument("--save-every", type=positive, default=settings["save_every"], help="steps between checkpoints")
    group.add_argument("--out", type=Path, help="run folder (default: runs/MODEL/ALGORITHM)")
    group.add_argument("--sft-run", type=Path, help="folder of the SFT checkpoint (default: runs/MODEL/sft)")
    group.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    group.add_argument("--overwrite", action="store_true", help="start again in a used folder")
    sandboxes.add_arguments(parser)
    args = parser.parse_args(argv)
    folder = Path("runs") / run_name(args.model)
    if args.algorithm == "reinforce":
        args.advantage = "leave-one-out"
    args.out, args.sft_run = args.out or folder / args.algorithm, args.sft_run or folder / "sft"
    return args


def starting_point(args: argparse.Namespace) -> Path | None:
    """The SFT folder to start from, made now for the tiny model; None for a cold start."""
    if args.init == "base" or args.random_weights:
        return None
    if exists(args.sft_run):
        return args.sft_run
    if args.model == "tiny":
        resume = (args.sft_run / "config.json").exists()
        print(f"No warm start in {args.sft_run} yet: making one now (supervised fine-tuning, about 3 minutes, once).")
        if not sft.main(["--model", "tiny", "--out", str(args.sft_run), *(["--resume"] if resume else [])]):
            raise SystemExit(130)
        return args.sft_run
    if args.init == "sft":
        raise RunError(f"there is no SFT checkpoint in {args.sft_run}: make one with python sft.py --model {args.model}")
    print(f"No SFT checkpoint in {args.sft_run}: this is a cold start from the base model. The paper finds that a warm "
          f"start matters most: python sft.py --model {args.model}")
    return None


def main(argv: list[str] | None = None) -> dict | None:
    """Warm start, evaluate, train, evaluate, show. Bad input: one line, exit code 2."""
    try:
        args = parse(argv)
        select(args.tasks)
        check_arguments(args.quantize, args.lora_rank)
        curriculum.check(args)
        args.device = parallel.start(args.device)
        plan.set_defaults(args, sys.argv[1:] if argv is None else argv, args.questions * args.samples)
        run = parallel.first_then_others(lambda: Run(args.out, vars(args), args.resume, args.overwrite))
        warm = starting_point(args)
        policy, tokenizer = load(args.model, checkpoint_folder=warm, dtype=args.dtype, quantize=args.quantize,
                                 lora_rank=args.lora_rank, random_weights=args.random_weights, layers=args.layers,
                                 device=args.device, gradient_checkpointing=args.gradient_checkpointing, seed=args.seed)
        adapter = warm / "adapter" if warm and (warm / "adapter").is_dir() else None
        reference = Reference(policy, adapter) if args.kl else None
        box = sandboxes.from_args(args)
        engine = evaluate.make_engine(policy, tokenizer, box, args)
        held_out = draw(select(args.tasks), "eval", args.eval_questions, args.levels)
    except (ModelError, RunError, TaskError, ChatError, sandboxes.SandboxError) as error:
        fail(error)
    with box:
        results, episodes, name = {}, [], args.algorithm.upper()
        if held_out:
            results["after SFT" if warm else "before"], _ = evaluate.evaluate(
                engine, held_out, temperature=args.eval_temperature, name="before")
        if not train(policy, reference, engine, run, args):
            print(f"Stopped; {args.out} keeps the finished steps. The same command with --resume goes on.")
            raise SystemExit(130)
        run.save(policy, tokenizer)
        if held_out:
            results[f"after {name}"], episodes = evaluate.evaluate(
                engine, held_out, temperature=args.eval_temperature, name="after")
    if not held_out:
        print(f"{name}: {args.steps} steps; saved in {run.folder}")
        return None
    run.write("eval.json", results)
    report.refresh(run, tokenizer)
    print("\n" + evaluate.table(results))
    shown = next((e for e in episodes if e.correct and e.calls), episodes[0])
    print(f"\nOne episode after {name}:\n{evaluate.show(shown)}\n\nSaved in {run.folder}; look at "
          f"{run.folder / 'report.html'}")
    return results


if __name__ == "__main__":
    command(main)
