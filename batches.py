"""What SFT, GRPO and the critic share: micro-batches, the one optimizer step, its checkpoint.

    sequences -> micro-batches, padded on the right -> loss.backward() for each -> clip -> one optimizer step

The loss is normalised once per step, so the gradient does not depend on how the step is split:

    memory        if a micro-batch of `micro_tokens` places does not fit, the step starts again with half
    prompts       sequences with the same prompt stay together: `models.score` reads it once for all of them
    several GPUs  (`torchrun --nproc_per_node 4 grpo.py --model 7b`) every process holds the whole policy,
                  samples its share of the questions and trains on its share; gradients are added up"""
import atexit
import contextlib
import ctypes
import gc
import math
import os
import pickle
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta

import torch
import torch.distributed as dist
from tqdm import tqdm

from runs import KEPT, Run, UserError, rank, world_size, writing


def pad(sequences: list[list], device="cpu") -> torch.Tensor:
    """(B, T), padded on the right with 0 (masks rule everything; the value of padding never matters)."""
    width = max(map(len, sequences))
    return torch.tensor([sequence + [0] * (width - len(sequence)) for sequence in sequences], device=device)


def training_mask(mask: list[int], train_on_code_output: bool = False) -> list[int]:
    """Which tokens are trained: those the policy wrote. With the ablation: everything after the prompt."""
    first = mask.index(1) if 1 in mask else len(mask)
    return [0] * first + [1] * (len(mask) - first) if train_on_code_output else mask


def prompt_of(ids: list[int], mask: list[int]) -> tuple[int, ...]:
    """The tokens before the first one that the policy wrote."""
    return tuple(ids[:mask.index(1)] if 1 in mask else ids)


def batch_of(step: int, size: int, batch: int, seed: int | str) -> list[int]:
    """Indices of a step's examples: each epoch is a permutation, and steps run on across epochs."""
    chosen = []
    for place in range(step * batch, (step + 1) * batch):
        epoch, offset = divmod(place, size)
        if not chosen or offset == 0:
            order = list(range(size))
            random.Random(f"{seed}/{epoch}").shuffle(order)
        chosen.append(order[offset])
    return chosen


def micro_batches(lengths: list[int], tokens: int, prompts: list[tuple] | None = None,
                  chosen: Iterable[int] | None = None) -> list[list[int]]:
    """The chosen indices (default: all) in groups of at most `tokens` places, padding included, and of one
    prompt. Only attention computes padding; less than half as long as a group's longest starts a new one."""
    chosen = list(range(len(lengths)) if chosen is None else chosen)
    prompt = prompts or [()] * len(lengths)
    longest = {prompt[i]: lengths[i] for i in sorted(chosen, key=lambda i: lengths[i])}
    groups: list[list[int]] = []
    for i in sorted(chosen, key=lambda i: (-longest[prompt[i]], prompt[i], -lengths[i], i)):
        first = groups[-1][0] if groups else i
        alike = prompt[i] == prompt[first] and lengths[i] >= lengths[first] / 2
        if groups and alike and (len(groups[-1]) + 1) * lengths[first] <= tokens:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


class OutOfMemory:
    """`with OutOfMemory() as memory:` ends its block when the device is full; `memory.ran_out` says so."""

    ran_out = False

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback) -> bool:
        # cuBLAS and the CPU's allocator say it in their own words.
        words = ("CUBLAS_STATUS_ALLOC_FAILED", "out of memory", "can't allocate memory")
        self.ran_out = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
        return self.ran_out


def release() -> None:
    """Give memory that nobody uses back to the device, or to the system (glibc keeps what was freed)."""
    gc.collect()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def trained_parameters(policy) -> dict[str, torch.Tensor]:
    """Name -> parameter, of the parameters that are trained."""
    return {name: parameter for name, parameter in policy.named_parameters() if parameter.requires_grad}


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal, so that every direction moves equally far (Keller Jordan 2024). As
    torch.optim.Muon, but in the weights' dtype: that one multiplies in bfloat16, slow on some processors."""

    def __init__(self, matrices: list[torch.Tensor], lr: float):
        super().__init__(matrices, {"lr": lr})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                momentum = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
                momentum.lerp_(matrix.grad, 0.05)
                update = orthogonal(matrix.grad.lerp(momentum, 0.95)) * 0.2 * max(matrix.shape) ** 0.5
                matrix.sub_(update, alpha=group["lr"])  # about as large as AdamW's


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """About U V' of U S V': five Newton-Schulz steps, which bring all singular values near 1."""
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp_min(1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


def make_optimizers(parameters: dict[str, torch.Tensor], kind: str, lr: float) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon on the matrices of the layers and AdamW on the rest (embeddings, norms, biases)."""
    matrices = {name: p for name, p in parameters.items()
                if kind == "muon" and p.ndim == 2 and "embed" not in name and "lm_head" not in name}
    others = [p for name, p in parameters.items() if name not in matrices]
    return [*([Muon(list(matrices.values()), lr)] if matrices else []),
            torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)]


class Progress(tqdm):
    """A bar on a terminal. Elsewhere, as in a log: a line for each fourteenth of the way."""

    def __init__(self, total: int, name: str, unit: str = "", done: int = 0):
        self.part = None if sys.stderr.isatty() else -1  # of the way, at the last line
        super().__init__(total=total, initial=done, desc=name, unit=unit, disable=rank() > 0,
                         **({} if self.part is None else {"leave": False, "ncols": 0}))

    def display(self, *arguments, **options):
        if self.part is None:
            return super().display(*arguments, **options)
        before, self.part = self.part, 14 * self.n // max(1, self.total)
        if self.part > before:
            print(self, file=sys.stderr, flush=True)


SKIPPED = 5  # so many steps in a row that are not finite end the run


class Trainer:
    """Parameters, their optimizers, and a step of them: the same for SFT, the policy and the critic."""

    def __init__(self, parameters: dict[str, torch.Tensor], lr: float, micro_tokens: int, kind="adamw"):
        self.parameters = parameters
        self.optimizers = make_optimizers(parameters, kind, lr)
        self.micro_tokens = micro_tokens
        self.skipped = 0  # steps in a row that were not taken

    def step(self, lengths: list[int], loss_of: Callable[[list[int]], tuple[torch.Tensor, dict]],
             prompts: list[tuple] | None = None, lr: float | None = None) -> dict:
        """One update from sequences of these lengths; sums of what loss_of reports, and the gradient's norm.
        loss_of(indices) -> (loss, numbers for the log): the share of these sequences in the step's loss."""
        mine = sorted(range(len(lengths)), key=lambda i: -lengths[i])[rank()::world_size()]
        sums: Counter | None = None
        while sums is None:
            sums = Counter()
            for group in micro_batches(lengths, self.micro_tokens, prompts, mine):
                with OutOfMemory() as memory:
                    loss, numbers = loss_of(group)
                    loss.backward()
                    sums.update({"loss": loss.item(), **numbers})
                if memory.ran_out:
                    loss = sums = None  # the tensors of the failed attempt
                    self._give_way([lengths[i] for i in group])
                    break
        parameters, sums = list(self.parameters.values()), totals(sums)
        sum_gradients(parameters)
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm=1.0).item()
        finite = math.isfinite(norm) and math.isfinite(sums.get("loss", 0.0))
        self.skipped = 0 if finite else self.skipped + 1
        if self.skipped == SKIPPED:
            raise UserError(f"{SKIPPED} steps in a row had a loss or gradient that is not finite, so they "
                            f"were not taken: a lower --lr, or in RL --dual-clip 3, may help{KEPT}")
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] if lr is None else lr
            if finite:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return {**sums, "grad_norm": norm, "skipped": int(not finite), "micro_tokens": self.micro_tokens}

    @torch.no_grad()
    def score(self, function: Callable, ids: list[list[int]], masks: list[list[int]]) -> torch.Tensor:
        """function(ids (B, T), mask (B, T)) -> (B, T) for all, without gradient: (N, T) on the CPU."""
        lengths, prompts = [len(row) for row in ids], [prompt_of(*row) for row in zip(ids, masks)]
        device = next(iter(self.parameters.values())).device
        result = None
        while result is None:
            result = torch.zeros(len(ids), max(lengths))
            for group in micro_batches(lengths, self.micro_tokens, prompts):
                with OutOfMemory() as memory:
                    part = function(*(pad([rows[i] for i in group], device) for rows in (ids, masks)))
                    result[group, :part.shape[1]] = part.cpu()
                if memory.ran_out:
                    result = None
                    self._give_way([lengths[i] for i in group])
                    break
        return result

    def _give_way(self, lengths: list[int]) -> None:
        """Half the budget, after sequences of these lengths did not fit. UserError if it was a single one."""
        for parameter in self.parameters.values():
            parameter.grad = None  # the failed micro-batch may have added a part of its own
        release()
        if len(lengths) == 1:
            raise UserError(f"a single sequence of {lengths[0]} tokens does not fit into memory for "
                            "training: lower --episode-tokens, or see what fits with `python r1ci.py plan`")
        old = self.micro_tokens
        self.micro_tokens = min(old, len(lengths) * max(lengths)) // 2
        tqdm.write(f"out of memory in training: from {old} to {self.micro_tokens} tokens per forward pass "
                   f"(--micro-tokens {self.micro_tokens} avoids this)", sys.stderr)


def save_checkpoint(run: Run, parameters: dict, optimizers: list, step: int) -> None:
    """Save what training needs to go on after `step` steps; parameters: name -> trained tensor. Written under
    a temporary name and renamed: there is always one whole checkpoint."""
    if rank() > 0:
        return
    if not all(parameter.isfinite().all() for parameter in parameters.values()):
        raise UserError(f"weights are not finite after {step} steps, so they are not saved{KEPT}")
    state = {"step": step, "parameters": parameters, "random": torch.get_rng_state(),
             "optimizers": [optimizer.state_dict() for optimizer in optimizers]}
    fresh, final = run.folder / "trainer.pt.new", run.folder / "trainer.pt"
    with writing(final, RuntimeError, hint=KEPT):
        with open(fresh, "wb") as file:
            torch.save(state, file)
            os.fsync(file.fileno())  # on the disk before it gets the good name
        os.replace(fresh, final)


def restore(run: Run, parameters: dict, optimizers: list) -> int:
    """Load the last checkpoint, if there is one, and cut the logs back to it; the finished steps."""
    path, step = run.folder / "trainer.pt", 0
    try:
        if path.exists():
            state = torch.load(path, map_location="cpu", weights_only=True)
            for name, parameter in parameters.items():
                parameter.data.copy_(state["parameters"][name])
            for optimizer, saved in zip(optimizers, state["optimizers"]):
                optimizer.load_state_dict(saved)
            torch.set_rng_state(state["random"])
            step = state["step"]
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, TypeError, pickle.UnpicklingError):
        raise UserError(f"{path} is damaged: --overwrite starts again") from None
    run.cut(step)
    same_on_all_ranks(parameters)
    return step


def same_on_all_ranks(parameters: dict[str, torch.Tensor]) -> None:
    """UserError if torchrun's processes would train different policies."""
    sums = gather([sum(parameter.double().abs().sum().item() for parameter in parameters.values())])
    if any(abs(other - sums[0]) > 1e-9 * abs(sums[0]) for other in sums):
        raise UserError(f"the processes have loaded different weights (sums {sums}): use a folder that all "
                        "of them can read")


def join_processes(device: str) -> None:
    """Meet the other processes that torchrun has started, if any; all but the first one print no more."""
    if world_size() == 1 or dist.is_initialized():
        return
    # Rank 0 may run many programs for the warm start's conversations while the others wait.
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=timedelta(hours=4))
    atexit.register(dist.destroy_process_group)
    if rank() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (for the rest of the process)


def gather(items: list) -> list:
    """The items of all ranks, in the order of ranks, on every rank."""
    if world_size() == 1:
        return items
    parts: list = [None] * world_size()
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def first_then_others(work):
    """work() on rank 0, and when it is done on the others: they find what rank 0 has written."""
    if rank() == 0:
        result = work()
    if world_size() > 1:
        dist.barrier()
    return result if rank() == 0 else work()


def sum_gradients(parameters: list[torch.Tensor]) -> None:
    """Add up the gradients over the ranks, in place."""
    if world_size() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:  # nothing of this step fell to this rank
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def totals(numbers: dict) -> dict:
    """Each of these sums, added up over the ranks."""
    parts = gather([numbers])
    return {name: sum(part.get(name, 0) for part in parts) for part in parts for name in part}


def rollouts(engine, questions: list, samples: int = 1, *, first: int = 0, **options) -> list:
    """Episodes of all these questions, on every rank: each rank samples its block of them. first: the number
    of the first episode, as in Engine.run."""
    start, end = (len(questions) * place // world_size() for place in (rank(), rank() + 1))
    return gather(engine.run(questions[start:end], samples, first=first + start * samples, **options))
