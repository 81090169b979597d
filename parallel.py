"""Several GPUs of one machine: `torchrun --nproc_per_node 4 grpo.py --model 7b`. One process computes on each.

Every process holds the whole policy. Questions are divided over the ranks for rollouts, the episodes are put together
again, and each rank then trains on its share of them. Losses are divided by the count of the *whole* step, so adding up
the ranks' gradients gives the gradient of one process with the same batch; every rank makes the same update. Random
numbers belong to (seed, episode, token), and episodes are numbered over all ranks, so the same episodes are sampled,
too. Rank 0 alone writes and prints.

Run by itself a script is rank 0 of 1, and every function here does nothing.
"""
import atexit
import os
import sys
from collections.abc import Iterable
from datetime import timedelta

import torch
import torch.distributed as dist

import memory


def rank() -> int:
    """Which of the processes this is: 0 writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def start(device: str) -> str:
    """Join the other processes if torchrun started this one; the device of this rank."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return device
    if device.startswith("cuda"):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    # Rank 0 may run many programs for the warm start's conversations while the others wait.
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo", timeout=timedelta(hours=4))
    atexit.register(dist.destroy_process_group)
    if rank() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (for the rest of the process)
    return device


def gather(items: list) -> list:
    """The items of all ranks, in the order of ranks, on every rank."""
    if size() == 1:
        return items
    parts: list = [None] * size()
    dist.all_gather_object(parts, items)
    return [item for part in parts for item in part]


def any_rank(flag: bool) -> bool:
    """Is it true on at least one rank? (Ctrl-C need not reach all of them in the same step.)"""
    return any(gather([flag]))


def first_then_others(work):
    """work() on rank 0, and when it is done on the others: they find what rank 0 has written."""
    if rank() == 0:
        result = work()
    if size() > 1:
        dist.barrier()
    return result if rank() == 0 else work()


def sum_gradients(parameters: Iterable[torch.Tensor]) -> None:
    """Add up the gradients over the ranks, in place."""
    if size() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:  # nothing of this step fell to this rank
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def totals(numbers: dict) -> dict:
    """Each of these sums, added up over the ranks."""
    parts = gather([numbers])
    return {name: sum(part.get(name, 0) for part in parts) for name in {name: 0 for part in parts for name in part}}


def rollouts(engine, questions: list, samples: int = 1, *, first: int = 0, **options) -> list:
    """Episodes of all these questions, on every rank: each samples its block of them (see memory.rollouts).

    first: the number of the first episode, as in Engine.run.
    """
    start, end = (len(questions) * place // size() for place in (rank(), rank() + 1))
    return gather(memory.rollouts(engine, questions[start:end], samples, first=first + start * samples, **options))
