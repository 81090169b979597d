"""Rollouts: many multi-turn episodes at once, with the interpreter in the loop.

An episode is one growing list of token ids. The policy samples a turn; if it ends in a python block, the
sandbox runs the block and its output is appended as ids that the mask excludes, until it answers.

    ids   <system + question> A program. ```python .. ``` <results: 3> The answer is <<<3>>> <end of turn>
    mask   0 0 0 0 0 0 0 0 0  1 1 1 1 1 1 1 1 1 1 1 1 1 1  0 0 0 0 0   1 1 1 1 1 1 1 1 1 1   1

The engine (continuous batching) decodes up to `slots` episodes together, each in its own slot of one cache
(kvcache.py) and at its own position. One step:

    admit    the next episodes of the queue into free slots
    collect  outputs of programs, which ran in the sandbox while the other rows went on
    prefill  one chunk of what rows have not read yet: prompts (once per question, then copied), results
    decode   one token for every row, sampled on the device; the last unread id is fed here, too

If memory runs out, the rollout starts again with half of the slots. Training relies on three promises:

    tokens        ids are appended as sampled; nothing is decoded and encoded again
    distribution  what is sampled is softmax(logits / temperature) and nothing else, in float32
    randomness    the random number of token t of episode i is a hash of (seed, i, t). What is left is
                  rounding: a row's last bits depend on who is in the batch with it. With `exact`, a program's
                  output therefore enters a fixed number of steps after it: a run repeats bit by bit"""
import argparse
import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Container, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import KW_ONLY, asdict, dataclass, field

import torch
from tqdm import tqdm

from batches import OutOfMemory, release
from chat import Chat, find_code
from kvcache import SlotCache, check_cache
from models import Merged, is_mixed
from runs import UserError
from sandbox import Sandbox
from tasks import TASKS, Question

STOPS = ("answer", "void", "length", "calls")
LAG = 4  # decode steps that a program may run beside its neighbours' decoding before `exact` waits for it


@dataclass(frozen=True)
class Limits:
    """Limits of an episode; the first three end it (stop "length" or "calls"), the last cuts outputs."""
    turn_tokens: int = 768  # sampled in one turn
    episode_tokens: int = 4096  # prompt, results and everything sampled
    calls: int = 8  # programs run
    results_chars: int = 2000  # characters of a program's output shown to the policy


@dataclass
class Turn:
    """One turn of the policy: ids[start:end], its text, its program and what that printed (None without)."""
    start: int
    end: int
    text: str
    code: str | None = None
    output: str | None = None
    status: str | None = None
    seconds: float = 0.0


@dataclass
class Episode:
    """One conversation. mask[t] is 1 iff the policy sampled ids[t]; logprobs[t] is 0 elsewhere. stop:
    "answer"; "void" (a turn with neither code nor answer); "length"; "calls" (one program too many)."""
    question: Question
    ids: list[int]
    mask: list[int]
    logprobs: list[float]
    turns: list[Turn] = field(default_factory=list)
    answer: str | None = None
    correct: bool = False
    reward: float = 0.0
    stop: str = ""
    number: int = 0  # among all episodes of a run: random numbers go by it

    @property
    def calls(self) -> int:
        """Programs run."""
        return sum(turn.status is not None for turn in self.turns)

    def record(self, chat: Chat) -> dict:
        """Everything about the episode as plain data: one line of episodes.jsonl."""
        messages = chat.messages(self.question.prompt)
        for turn in self.turns:
            messages.append({"role": "assistant", "content": turn.text})
            if turn.output is not None:
                messages.append({"role": "user", "content": turn.output})
        return {"task": self.question.task, "seed": self.question.seed, "level": self.question.level,
                "messages": messages, "answer": self.answer, "correct": self.correct, "reward": self.reward,
                "stop": self.stop, "turns": [asdict(turn) for turn in self.turns],
                "ids": self.ids, "mask": self.mask, "logprobs": [round(p, 5) for p in self.logprobs]}


def uniforms(seed: int, episodes: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """One number in [0, 1) for each (episode, token): the splitmix64 hash of seed, episode and token."""
    start = (seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64
    x = episodes * 0x1000003D + tokens + (start - 2**64 if start >= 2**63 else start)  # int64 wraps round
    x = (x ^ (x >> 30 & 2**34 - 1)) * -0x40A7B892E31B1A47  # the mask makes the shift unsigned
    x = (x ^ (x >> 27 & 2**37 - 1)) * -0x6B2FB644ECCEEE15
    x = x ^ (x >> 31 & 2**33 - 1)
    return (x & 2**53 - 1).double() / 2**53


def sample(logits: torch.Tensor, u: torch.Tensor, temperature: float, top_p: float = 1.0
           ) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, logprobs), each (R,), for logits (R, V) and one uniform number per row. Inverse transform: the
    first id at which the cumulated probability exceeds u. Temperature 0 is greedy (log-probs then of
    temperature 1). top_p < 1 keeps the smallest set of ids with that mass (for inference only: the trainer
    does not know the cut); log-probs stay those of the uncut distribution."""
    scaled = logits if temperature in (0, 1) else logits.float() / temperature
    probs = torch.softmax(scaled, dim=-1, dtype=torch.float32)
    kept = probs
    if top_p < 1:
        ordered, order = probs.sort(-1, descending=True)
        ordered[ordered.cumsum(-1) - ordered >= top_p] = 0
        kept = torch.zeros_like(probs).scatter(-1, order, ordered)
    mass = kept.cumsum(-1)
    total = mass[:, -1:]  # rounding leaves it a little off 1
    level = torch.minimum((u[:, None] * total).to(mass.dtype), total.nextafter(torch.zeros_like(total)))
    # "right": an id of probability 0 is never hit
    ids = logits.argmax(-1) if temperature == 0 else torch.searchsorted(mass, level, right=True).squeeze(-1)
    ids = ids.clamp_max(logits.shape[-1] - 1)  # of NaN
    return ids, probs.gather(-1, ids[:, None]).squeeze(-1).log()


@dataclass(eq=False)
class Row:
    """An episode in a slot: what is in its cache, what is not yet, and its running program."""
    episode: Episode
    group: int  # which question it answers
    pending: list[int]  # ids not yet in the cache
    cached: int = 0
    turn_start: int = 0
    closed: bool = False  # did the policy itself write the end of its last turn?
    future: Future | None = None
    ready_at: int = 0  # decode step at which the program's output is taken


@dataclass(eq=False)
class Engine:
    """Runs questions x samples through policy and sandbox."""
    policy: torch.nn.Module  # in eval mode
    tokenizer: object
    sandbox: Sandbox
    limits: Limits = Limits()
    _: KW_ONLY
    chat: Chat | None = None  # the protocol (default: the interpreter protocol of this tokenizer)
    slots: int = 64  # episodes decoded together
    exact: bool = True  # take a program's output LAG decode steps after it: a run repeats bit by bit
    chunk: int = 1024  # most tokens of one prefill
    merged: Merged | None = None  # sample from this copy of the policy, made anew at every run

    def __post_init__(self):
        self.chat = self.chat or Chat(self.tokenizer)
        self.ticks = {i for token, i in self.tokenizer.get_vocab().items() if "`" in token}  # in every fence
        self.cache: SlotCache | None = None  # allocated by the first run, used by all
        self.seconds_waiting = 0.0
        self.batches: Counter[int] = Counter()  # rows in a decode step -> steps

    def speak(self, mode: str, style: str) -> None:
        """Ask in this way from now on (see chat.PROMPTS)."""
        self.chat = Chat(self.tokenizer, mode, style, self.chat.answer_format, tuple(self.chat.stop_ids))

    def run(self, questions: Iterable[Question], samples: int = 1, *, temperature: float = 1.0,
            top_p: float = 1.0, seed: int = 0, first: int = 0, skip: Container[int] = (),
            on_token: Callable[[Episode, int], None] | None = None,
            on_turn: Callable[[Episode, Turn], None] | None = None,
            on_end: Callable[[Episode], None] | None = None) -> list[Episode]:
        """Episodes in order: all samples of the first question, then of the second, and so on. first: number
        of the first episode, where these are a part of more. skip: numbers of known episodes; with `exact`,
        they are left out only if all are known (a row's last bits depend on its neighbours)."""
        if self.policy.training:
            raise ValueError("rollouts need policy.eval(): training mode has dropout and no cache")
        questions = list(questions)
        if all(number in skip for number in range(first, first + len(questions) * samples)):
            return []
        if self.merged:
            self.merged.refresh(self.policy)
        episodes = None
        while episodes is None:
            with OutOfMemory() as memory:
                queue = self._queue(questions, samples, first, () if self.exact else skip)
                episodes = self._run(queue, (temperature, top_p, seed), on_token, on_turn, on_end)
            if memory.ran_out or self.cache and self.cache.bytes > 2**28:
                self.cache = None  # its memory is for training now
                release()
            if memory.ran_out:
                self._give_way(min(self.slots, len(questions) * samples))
        return episodes

    def _give_way(self, slots: int) -> None:
        """Half the slots, after so many did not fit."""
        if slots == 1:
            raise UserError(f"the cache of one episode of {self.limits.episode_tokens} tokens does not fit "
                            "into memory: lower --episode-tokens (see `python r1ci.py plan`)")
        self.slots = slots // 2
        tqdm.write(f"out of memory in rollouts: from {slots} to {self.slots} slots (--slots {self.slots} "
                   "avoids this)", sys.stderr)

    def _queue(self, questions: list[Question], samples: int, first: int, skip: Container[int]) -> deque[Row]:
        """All episodes to write, in order."""
        queue: deque[Row] = deque()
        for group, question in enumerate(questions):
            prompt, start = self.chat.prompt_ids(question.prompt), first + group * samples
            for number in (i for i in range(start, start + samples) if i not in skip):
                episode = Episode(question, list(prompt), [0] * len(prompt), [0.0] * len(prompt),
                                  number=number)
                queue.append(Row(episode, group, list(prompt), turn_start=len(prompt)))
        return queue

    def _run(self, queue: deque[Row], sampling: tuple[float, float, int], on_token, on_turn, on_end
             ) -> list[Episode]:
        """The loop over steps; sampling: temperature, top_p, seed."""
        episodes = [row.episode for row in queue]
        slots = min(self.slots, len(queue))
        cache = self._cache(slots)
        rows: list[Row] = []  # row i occupies slot i
        step = 0
        while queue or rows:
            while queue and len(rows) < slots:
                rows.append(queue.popleft())
                if len(rows[-1].pending) >= self.limits.episode_tokens:
                    rows[-1].episode.stop = "length"
            self._collect(rows, step, on_turn)
            self._sweep(rows, cache, on_end)
            self._prefill(cache, rows)
            ready = [i for i, row in enumerate(rows) if len(row.pending) == 1]
            behind = sum(len(row.pending) > 1 for row in rows)
            if ready and len(ready) >= behind:  # a nearly empty batch first gets fuller
                logits = cache.decode([row.pending[0] if len(row.pending) == 1 else 0 for row in rows],
                                      [row.cached for row in rows])  # a dummy's place is written again later
                logits = logits if len(ready) == len(rows) else logits[ready]
                chosen = [rows[i] for i in ready]
                for row in chosen:
                    row.cached += 1
                    row.pending = []
                self._extend(chosen, logits, sampling, step, on_token, on_turn)
                self.batches[len(rows)] += 1
                step += 1
            self._sweep(rows, cache, on_end)
        return episodes

    def _cache(self, slots: int) -> SlotCache:
        """The cache of the run before if it has slots enough, else a new one."""
        tokens = self.limits.episode_tokens
        if self.cache is None or self.cache.slots < slots or self.cache.capacity != tokens:
            self.cache = None
            release()  # what it had, and training
            self.cache = SlotCache(self.merged.policy if self.merged else self.policy, slots, tokens)
        return self.cache

    def _prefill(self, cache: SlotCache, rows: list[Row]) -> None:
        """Bring one chunk of unread ids into the cache: the oldest row's, and of rows with about as many. The
        samples of a question share its prompt: one row reads it, the others wait and copy."""
        # question -> places read, slot of the row that has read most
        leaders: dict[int, tuple[int, int]] = {}
        for i, row in enumerate(rows):
            if row.group not in leaders or row.cached > leaders[row.group][0]:
                leaders[row.group] = row.cached, i
        behind = []
        for i, row in enumerate(rows):
            (read, leader), shared = leaders[row.group], len(row.pending) - 1
            if row.cached == 0 and leader != i:
                if read >= shared:
                    cache.copy(leader, i, shared)
                    row.cached = shared
                    row.pending = row.pending[-1:]
            elif shared > 0:
                behind.append(i)
        if not behind:
            return
        oldest = min(behind, key=lambda i: rows[i].episode.number)
        width = min(len(rows[oldest].pending) - 1, self.chunk)
        fitting = sorted((i for i in behind if i != oldest and 2 * len(rows[i].pending) > width),
                         key=lambda i: (-min(len(rows[i].pending) - 1, width), rows[i].episode.number))
        chosen = [oldest, *fitting[:self.chunk // width - 1]]
        cache.prefill(chosen, [rows[i].pending[:-1][:width] for i in chosen],
                      [rows[i].cached for i in chosen])
        for row in (rows[i] for i in chosen):
            taken = min(len(row.pending) - 1, width)
            row.cached += taken
            row.pending = row.pending[taken:]

    def _extend(self, rows: list[Row], logits: torch.Tensor, sampling: tuple[float, float, int], step: int,
                on_token, on_turn) -> None:
        """Sample the next token of these rows, append it, and end turns that are over."""
        temperature, top_p, seed = sampling
        numbers = torch.tensor([row.episode.number for row in rows], device=logits.device)
        places = torch.tensor([len(row.episode.ids) for row in rows], device=logits.device)
        ids, logprobs = sample(logits, uniforms(seed, numbers, places), temperature, top_p)
        for row, token, logprob in zip(rows, ids.tolist(), logprobs.tolist()):
            if math.isnan(logprob):
                raise UserError("the policy's probabilities are not numbers any more, its weights spoilt: "
                                "start again from an earlier policy, with a lower --lr")
            episode = row.episode
            episode.ids.append(token)
            episode.mask.append(1)
            episode.logprobs.append(logprob)
            row.pending = [token]
            if on_token:
                on_token(episode, token)
            closed = token in self.chat.stop_ids
            written = episode.ids[row.turn_start:len(episode.ids) - closed]
            code = None
            if self.chat.mode != "text" and (closed or token in self.ticks):
                code = find_code(self.tokenizer.decode(written))
            full = len(written) >= self.limits.turn_tokens or len(episode.ids) >= self.limits.episode_tokens
            if closed or code is not None or full:
                self._end_turn(row, code, closed, step)
                if on_turn:
                    on_turn(episode, episode.turns[-1])

    def _end_turn(self, row: Row, code: str | None, closed: bool, step: int) -> None:
        """Decide what a finished turn was: a program to run, the answer, or the end for another reason."""
        episode = row.episode
        text = self.tokenizer.decode(episode.ids[row.turn_start:], skip_special_tokens=True)
        episode.turns.append(Turn(row.turn_start, len(episode.ids), text, code))
        if code is not None and episode.calls >= self.limits.calls:
            episode.stop = "calls"
        elif code is not None:
            row.pending = []  # the last sampled token is fed together with the results
            row.future = self.sandbox.submit(code)
            row.ready_at = step + LAG
            row.closed = closed
        elif not closed:
            episode.stop = "length"
        else:
            episode.answer = self.chat.answer(text)
            episode.stop = "void" if episode.answer is None else "answer"

    def _collect(self, rows: list[Row], step: int, on_turn) -> None:
        """Append outputs of programs whose time has come (exact: wait for them), or that are done (else)."""
        waiting = [row for row in rows if row.future]
        if waiting and len(waiting) == sum(not row.episode.stop for row in rows):  # nobody decodes meanwhile
            step = max(step, min(row.ready_at for row in waiting))
            if not self.exact:
                began = time.perf_counter()
                wait([row.future for row in waiting], return_when=FIRST_COMPLETED)
                self.seconds_waiting += time.perf_counter() - began
        for row in waiting:
            if row.ready_at > step if self.exact else not row.future.done():
                continue
            began = time.perf_counter()
            result = row.future.result()
            row.future = None
            self.seconds_waiting += time.perf_counter() - began
            episode, turn = row.episode, row.episode.turns[-1]
            turn.output = result.for_model(self.limits.results_chars)
            turn.status = result.status
            turn.seconds = result.seconds
            if on_turn:
                on_turn(episode, turn)
            added = self.chat.results_ids(turn.output, row.closed)
            row.pending = [episode.ids[-1], *added]
            if len(episode.ids) + len(added) >= self.limits.episode_tokens:
                episode.stop = "length"
                continue
            episode.ids += added
            episode.mask += [0] * len(added)
            episode.logprobs += [0.0] * len(added)
            row.turn_start = len(episode.ids)

    def _sweep(self, rows: list[Row], cache: SlotCache, on_end) -> None:
        """Take finished episodes out. The last row moves into the hole, so there never is one."""
        for i in reversed(range(len(rows))):
            if not rows[i].episode.stop:
                continue
            self._end(rows[i].episode, on_end)
            last = rows.pop()
            if i < len(rows):
                cache.copy(len(rows), i, last.cached)
                rows[i] = last

    def _end(self, episode: Episode, on_end) -> None:
        """Judge a finished episode. The answer is the policy's own; the check never sees tool output."""
        task = TASKS.get(episode.question.task)  # a question that somebody asks belongs to no task
        answered = episode.stop == "answer" and task is not None
        episode.correct = answered and task.check(episode.question, episode.answer)
        episode.reward = float(episode.correct)
        if on_end:
            on_end(episode)


def make_engine(policy, tokenizer, box: Sandbox, args: argparse.Namespace) -> Engine:
    """An engine with the limits and the protocol that the flags name."""
    eos = getattr(policy, "generation_config", None) and policy.generation_config.eos_token_id
    extra = tuple(eos) if isinstance(eos, list) else () if eos is None else (eos,)
    chat = Chat(tokenizer, args.mode, args.style, args.answer_format, extra)
    limits = Limits(args.turn_tokens, args.episode_tokens, args.calls, args.results_chars)
    check_cache(policy, chat.prompt_ids("What is 2 + 2?"), args.episode_tokens)
    layered = hasattr(policy, "peft_config") or args.quantize != "none"  # else there is nothing to merge
    int8, dtype = args.rollout_weights == "int8", getattr(torch, args.dtype)
    copied = int8 or args.rollout_weights == "merged" and layered or is_mixed(policy)  # as the trainer does
    return Engine(policy, tokenizer, box, limits, chat=chat, slots=args.slots, exact=args.exact,
                  merged=Merged(policy, torch.float32 if int8 else dtype, int8) if copied else None)
