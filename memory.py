"""Running out of memory without losing the run.

What fits is planned (`plan.py`), but a plan is an estimate and other programs use the same device. So both places that
need much memory give way instead of dying, and neither changes a result, but for rounding:

    training    a step's sequences are split into micro-batches of at most `tokens` places, longest first. If one does
                not fit, the gradients of the unfinished step are thrown away, the budget is halved, and the step starts
                again. Losses are normalised once per step, so the step is the same.
    rollouts    the cache has `slots` rows. If they do not fit, half of them are used, and the rollout starts again: the
                random number of a token depends on its episode only, so the same episodes come out.
"""
import ctypes
import functools
import gc
import platform
import sys
from collections import Counter
from collections.abc import Callable, Iterable

import torch
from tqdm import tqdm


class DoesNotFit(RuntimeError):
    """Not even the smallest piece fits into memory; the message says what would."""


def out_of_memory(error: BaseException) -> bool:
    """Is this the device saying that its memory is full? (cuBLAS and the CPU's allocator say it in their own words.)"""
    words = ("CUBLAS_STATUS_ALLOC_FAILED", "out of memory", "can't allocate memory")
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words))


def attempt(work: Callable, *arguments, **options):
    """work(...), or None if memory ran out. By then everything the work held on to is free again."""
    try:
        return work(*arguments, **options)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
    release()  # only here: in the handler, the traceback would still hold the tensors
    return None


def release() -> None:
    """Give memory that nobody uses back to the device, in one piece."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


@functools.cache
def keep_freed() -> bool:
    """Tell the C library to keep freed memory for the next tensors, instead of giving it back to the system; True if done.

    On a CPU large tensors come and go at every step, and each page that is asked for anew costs a fault. Measured on 2
    cores: sampling from 64 x 49,152 logits takes 2 ms instead of 13, a training step a tenth less. glibc only.
    """
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(trim_threshold, 2**31 - 1) and libc.mallopt(mmap_threshold, 2**30))


def micro_batches(lengths: list[int], tokens: int, families: list[tuple] | None = None) -> list[list[int]]:
    """Indices grouped so that each group, padded, has at most `tokens` places; longest first.

    Padding is computed, too, so sequences shorter than three quarters of a group's longest start a new group.
    families: (name, prompt length) of each sequence. The prompt of a family is read once for a group (`models.score`).
    So a group holds one family, and as much padding as costs less than to read its prompt again.
    """
    longest: dict = {}
    for length, family in zip(lengths, families or []):
        longest[family] = max(length, longest.get(family, 0))
    places = {family: place for place, family in enumerate(sorted(longest, key=lambda f: -longest[f]))}
    groups: list[list[int]] = []
    padding = 0
    for index in sorted(range(len(lengths)), key=lambda i: (places[families[i]] if families else 0, -lengths[i], i)):
        first = groups[-1][0] if groups else index
        padding += lengths[first] - lengths[index]
        alike = (families[index] == families[first] and padding <= families[index][1] if families
                 else lengths[index] >= 0.75 * lengths[first])
        if groups and alike and (len(groups[-1]) + 1) * lengths[first] <= tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
            padding = 0
    return groups


def accumulate(lengths: list[int], tokens: int, backward: Callable[[list[int]], dict], parameters: Iterable[torch.Tensor],
               families: list[tuple] | None = None) -> tuple[Counter, int]:
    """(sums of what `backward(indices)` returns, budget that fitted), over micro-batches of at most `tokens` places.

    Gradients add up as it runs; `parameters` must come without any. Raises DoesNotFit if one sequence is too long.
    """
    parameters = list(parameters)
    while True:
        sums: Counter = Counter()
        for group in micro_batches(lengths, tokens, families):
            stats = attempt(backward, group)
            if stats is None:
                break
            sums.update(stats)
        else:
            return sums, tokens
        for parameter in parameters:  # the failed micro-batch may have added a part of its own
            parameter.grad = None
        if len(group) == 1:
            raise DoesNotFit(f"a single sequence of {lengths[group[0]]} tokens does not fit into memory for training: "
                             "lower --episode-tokens, or see what fits with `python r1ci.py plan`")
        old, tokens = tokens, min(tokens, len(group) * lengths[group[0]]) // 2
        tqdm.write(f"out of memory in training: from {old} to {tokens} tokens per forward pass (--micro-tokens {tokens} "
                   "avoids this)", sys.stderr)


def rollouts(engine, questions: list, samples: int = 1, *, on_restart: Callable[[], object] = lambda: None, **options
             ) -> list:
    """engine.run(questions, samples, **options), with fewer slots if memory runs out; stays with so many.

    on_restart is called before the episodes start anew. Raises DoesNotFit if a single slot does not fit.
    """
    while True:
        episodes = attempt(engine.run, questions, samples, **options)
        if episodes is None or torch.cuda.is_initialized():
            engine.cache = None  # on a GPU, its memory is for training now
            release()
        if episodes is not None:
            return episodes
        slots = min(engine.slots, len(questions) * samples)
        if slots == 1:
            raise DoesNotFit(f"the cache of a single episode of {engine.limits.episode_tokens} tokens does not fit into "
                             "memory: lower --episode-tokens, or see what fits with `python r1ci.py plan`")
        engine.slots = slots // 2
        tqdm.write(f"out of memory in rollouts: from {slots} to {engine.slots} slots (--slots {engine.slots} avoids "
                   "this)", sys.stderr)
        on_restart()
