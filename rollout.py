"""Rollouts: many multi-turn episodes at once, with the interpreter in the loop.

An episode is one growing list of token ids. The policy samples a turn; if it ends in a python block, the sandbox runs
the block and its output is appended as ids that the mask excludes; then the policy goes on, until it answers.

    ids   <system + question> I write a program. ```python .. ```  <results: 3>  The answer is <<<3>>> <end of turn>
    mask   0 0 0 0 0 0 0 0 0  1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1    0 0 0 0 0     1 1 1 1 1 1 1 1 1 1   1

The engine (continuous batching) decodes up to `slots` episodes together, each in its own slot of one preallocated
key/value cache (kvcache.py) and at its own position, so a row may read its program's output while its neighbours write
theirs. The queue holds all questions x samples; a slot that gets free takes the next episode. An episode that waits for
its program is parked in one of a few slots kept for that, so that its own is free, too. One step:

    admit    parked episodes whose program is done, then the next ones of the queue, into free slots
    park     rows that wait, as long as somebody else wants their slots; then admit again
    collect  outputs of programs, which ran in the sandbox while the other rows went on
    prefill  one chunk of what rows have not read yet: prompts (once per question, then copied), results
    decode   one token for every row, sampled on the device

All but the last unread id of a row is prefilled; the last one is fed by the decode step, like a token just sampled. So
there is one place where logits are computed and one where tokens are sampled.

Three promises that training relies on (and tests hold):
- Token in, token out: ids are appended as sampled; nothing is decoded and encoded again.
- What is sampled is softmax(logits / temperature) and nothing else (no top-k, no repetition penalty unless asked for),
  and the log-probabilities are of that distribution, in float32.
- The random number of token t of episode i is a hash of (seed, i, t): it does not depend on the number of slots, nor on
  when a program is done. What is left is rounding: a row's sums depend in the last bit on who is in the batch with it.
  With `exact`, a program's output therefore enters a fixed number of steps after the program was written, and is waited
  for if need be: a run repeats bit by bit, whatever else the machine is doing. Without, nobody waits for a slow program.
"""
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import asdict, dataclass, field

import torch

from chat import Chat, find_code
from copies import Merged
from kvcache import SlotCache
from sandbox import Sandbox
from tasks import TASKS, Question

STOPS = ("answer", "void", "length", "calls")


@dataclass(frozen=True)
class Limits:
    """Limits of an episode; reaching one ends it with stop "length" or "calls", never silently."""
    turn_tokens: int = 768  # sampled in one turn
    episode_tokens: int = 4096  # prompt, results and everything sampled
    calls: int = 8  # programs run
    results_chars: int = 2000  # characters of a program's output shown to the policy


@dataclass
class Turn:
    """One turn of the policy: ids[start:end], its text, its program and what that printed (None without program)."""
    start: int
    end: int
    text: str
    code: str | None = None
    output: str | None = None
    status: str | None = None
    seconds: float = 0.0


@dataclass
class Episode:
    """One conversation. mask[t] is 1 iff the policy sampled ids[t]; logprobs[t] is 0 elsewhere.

    stop: "answer"; "void" (a turn with neither code nor answer); "length"; "calls" (one program too many).
    """
    question: Question
    ids: list[int]
    mask: list[int]
    logprobs: list[float]
    turns: list[Turn] = field(default_factory=list)
    answer: str | None = None
    correct: bool = False
    reward: float = 0.0
    stop: str = ""

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
    """One number in [0, 1) for each (episode, token): the splitmix64 hash of seed, episode and token, in int64."""
    start = (seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64
    x = episodes * 0x1000003D + tokens + (start - 2**64 if start >= 2**63 else start)  # int64 wraps round
    x = (x ^ (x >> 30 & 2**34 - 1)) * -0x40A7B892E31B1A47  # the mask makes the shift unsigned
    x = (x ^ (x >> 27 & 2**37 - 1)) * -0x6B2FB644ECCEEE15
    x = x ^ (x >> 31 & 2**33 - 1)
    return (x & 2**53 - 1).double() / 2**53


def sample(logits: torch.Tensor, u: torch.Tensor, temperature: float, top_p: float = 1.0
           ) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, logprobs), each (R,), for logits (R, V) and one uniform number per row.

    Inverse transform: the first id at which the cumulated probability exceeds u. Temperature 0 is greedy (log-probs
    then of temperature 1). top_p < 1 keeps the smallest set of ids with that mass (for inference only: the trainer
    does not know the cut); log-probs stay those of the uncut distribution.
    """
    scaled = logits if temperature in (0, 1) else logits.float() / temperature
    probs = torch.softmax(scaled, dim=-1, dtype=torch.float32)
    if temperature == 0:
        ids = logits.argmax(-1)
    else:
        kept = probs
        if top_p < 1:
            ordered, order = probs.sort(-1, descending=True)
            ordered[ordered.cumsum(-1) - ordered >= top_p] = 0
            kept = torch.zeros_like(probs).scatter(-1, order, ordered)
        mass = kept.cumsum(-1)
        total = mass[:, -1:]  # rounding leaves it a little off 1
        level = torch.minimum((u[:, None] * total).to(mass.dtype), torch.nextafter(total, torch.zeros_like(total)))
        ids = torch.searchsorted(mass, level, right=True).squeeze(-1)  # "right": an id of probability 0 is never hit
    return ids, probs.gather(-1, ids[:, None]).squeeze(-1).log()


@dataclass(eq=False)
class Row:
    """An episode in a slot: what is in its cache, what is not yet, and its running program."""
    episode: Episode
    number: int  # of the episode
    group: int  # of the question
    pending: list[int]  # ids not yet in the cache
    cached: int = 0
    turn_start: int = 0
    closed: bool = False  # did the policy itself write the end of its last turn?
    future: Future | None = None
    ready_at: int = 0  # decode step at which the program's output is taken


def take_out(rows: list[Row], i: int, cache: SlotCache, base: int = 0) -> Row:
    """Remove row i of those in slots base, base + 1 ..; the last one moves into the hole, so there never is one."""
    row, last = rows[i], rows.pop()
    if i < len(rows):
        cache.copy(base + len(rows), base + i, last.cached)
        rows[i] = last
    return row


class Engine:
    """Runs questions x samples through policy and sandbox.

    policy: a model in eval mode; chat: the protocol (default: the interpreter protocol of this tokenizer);
    slots: episodes decoded together; lag: decode steps that a program may run beside its neighbours' decoding;
    exact: wait for a program that is not done by then, so that a run repeats bit by bit; chunk: most tokens of one
    prefill; static: decode in fixed shapes (None: on a GPU, where they are recorded as CUDA graphs); merged: sample from
    this copy of the policy, made anew at every run; park: if there are more episodes than slots, keep a fifth of these
    for episodes that wait for their programs (never with `exact`, where nobody waits for long).
    """

    def __init__(self, policy, tokenizer, sandbox: Sandbox, limits: Limits | None = None, *, chat: Chat | None = None,
                 slots: int = 64, lag: int = 4, exact: bool = True, chunk: int = 1024, static: bool | None = None,
                 merged: Merged | None = None, park: bool = True):
        self.policy, self.tokenizer, self.sandbox, self.limits = policy, tokenizer, sandbox, limits or Limits()
        self.chat = chat or Chat(tokenizer)
        self.slots, self.lag, self.exact, self.chunk, self.static = slots, lag, exact, chunk, static
        self.ticks = {i for token, i in tokenizer.get_vocab().items() if "`" in token}  # may complete a fence
        self.merged, self.park = merged, park and not exact and self.chat.mode != "text"
        self.cache: SlotCache | None = None  # allocated by the first run, used by all
        self.seconds_waiting = 0.0
        self.batches: Counter[int] = Counter()  # rows in a decode step -> steps

    def run(self, questions: Iterable[Question], samples: int = 1, *, temperature: float = 1.0, top_p: float = 1.0,
            seed: int = 0, first: int = 0, on_token: Callable[[Episode, int], None] | None = None,
            on_turn: Callable[[Episode, Turn], None] | None = None,
            on_end: Callable[[Episode], None] | None = None) -> list[Episode]:
        """Episodes in order: all samples of the first question, then of the second, and so on.

        first: the number of the first episode, where these are a part of more (random numbers go by it).
        """
        if self.policy.training:
            raise ValueError("rollouts need policy.eval(): training mode switches dropout on and the cache off")
        if self.merged:
            self.merged.refresh(self.policy)
        queue: deque[Row] = deque()
        for group, question in enumerate(questions):
            prompt = self.chat.prompt_ids(question.prompt)
            for _ in range(samples):
                episode = Episode(question, list(prompt), [0] * len(prompt), [0.0] * len(prompt))
                queue.append(Row(episode, first + len(queue), group, list(prompt), turn_start=len(prompt)))
        episodes = [row.episode for row in queue]
        cache = self._cache(min(self.slots, len(queue)))
        rows: list[Row] = []  # row i occupies slot i
        parked: list[Row] = []  # parked row i occupies slot self.active + i
        places = min(self.slots, len(queue)) // 5 if self.park and len(queue) > self.slots else 0
        self.parking = places if places > 1 else 0  # one would only serve to change places, see _park
        self.active = min(self.slots, len(queue)) - self.parking
        if cache:
            cache.decoding = self.active
        step = 0
        while queue or rows or parked:
            self._unpark(rows, parked, cache)
            while queue and len(rows) < self.active:
                row = queue.popleft()
                if len(row.pending) < self.limits.episode_tokens:
                    rows.append(row)
                else:
                    self._end(row.episode, "length", on_end)
            if self._park(rows, parked, cache, queue):
                continue
            self._collect(rows + parked, step, on_turn)
            self._sweep(rows, cache, on_end)
            self._sweep(parked, cache, on_end, self.active)
            self._prefill(cache, rows, parked)
            ready = [i for i, row in enumerate(rows) if len(row.pending) == 1]
            behind = sum(len(row.pending) > 1 for row in rows)
            if ready and len(ready) >= behind:  # a nearly empty batch first gets fuller
                logits = cache.decode([row.pending[0] if len(row.pending) == 1 else 0 for row in rows],
                                      [row.cached for row in rows])  # a dummy's place is written again later
                logits = logits if len(ready) == len(rows) else logits[ready]
                chosen = [rows[i] for i in ready]
                for row in chosen:
                    row.cached, row.pending = row.cached + 1, []
                self._extend(chosen, logits, temperature, top_p, seed, step, on_token, on_turn)
                self.batches[len(rows)] += 1
                step += 1
            self._sweep(rows, cache, on_end)
        return episodes

    # -- the parts of one step -------------------------------------------------------------------------------------
    def _cache(self, slots: int) -> SlotCache | None:
        """The cache of the run before if it has slots enough, else a new one."""
        if slots and (self.cache is None or self.cache.slots < slots
                      or self.cache.capacity != self.limits.episode_tokens):
            self.cache = None  # give the memory back first
            policy = self.merged.policy if self.merged else self.policy
            self.cache = SlotCache(policy, slots, self.limits.episode_tokens, self.static)
        if self.cache:
            self.cache.clear()
        return self.cache

    def _prefill(self, cache: SlotCache, rows: list[Row], parked: list[Row]) -> None:
        """Bring one chunk of unread ids into the cache: the oldest row's, and of rows with about as many.

        The samples of a question share its prompt: one row reads it, the others wait and copy.
        """
        leaders: dict[int, tuple[int, int]] = {}  # question -> places read, slot of the row that has read most
        for i, row in [*enumerate(rows), *enumerate(parked, self.active)]:
            if row.group not in leaders or row.cached > leaders[row.group][0]:
                leaders[row.group] = row.cached, i
        behind = []
        for i, row in enumerate(rows):
            (read, leader), shared = leaders[row.group], len(row.pending) - 1
            if row.cached == 0 and leader != i:
                if read >= shared:
                    cache.copy(leader, i, shared)
                    row.cached, row.pending = shared, row.pending[-1:]
            elif shared > 0:
                behind.append(i)
        if not behind:
            return
        oldest = min(behind, key=lambda i: rows[i].number)
        width = min(len(rows[oldest].pending) - 1, self.chunk)
        fitting = sorted((i for i in behind if i != oldest and 2 * len(rows[i].pending) > width),
                         key=lambda i: (-min(len(rows[i].pending) - 1, width), rows[i].number))
        chosen = [oldest, *fitting[:self.chunk // width - 1]]
        cache.prefill(chosen, [rows[i].pending[:-1][:width] for i in chosen], [rows[i].cached for i in chosen])
        for row in (rows[i] for i in chosen):
            taken = min(len(row.pending) - 1, width)
            row.cached, row.pending = row.cached + taken, row.pending[taken:]

    def _extend(self, rows: list[Row], logits: torch.Tensor, temperature: float, top_p: float, seed: int, step: int,
                on_token, on_turn) -> None:
        """Sample the next token of these rows, append it, and end turns that are over."""
        numbers = torch.tensor([row.number for row in rows], device=logits.device)
        places = torch.tensor([len(row.episode.ids) for row in rows], device=logits.device)
        ids, logprobs = sample(logits, uniforms(seed, numbers, places), temperature, top_p)
        for row, token, logprob in zip(rows, ids.tolist(), logprobs.tolist()):
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
        row.pending = [] if code is not None else row.pending
        if code is not None:
            if episode.calls >= self.limits.calls:
                episode.stop = "calls"
                return
            # The last sampled token is fed together with the results.
            row.future, row.ready_at, row.closed = self.sandbox.submit(code), step + self.lag, closed
        elif not closed:
            episode.stop = "length"
        else:
            episode.answer = self.chat.answer(text)
            episode.stop = "void" if episode.answer is None else "answer"

    def _collect(self, rows: list[Row], step: int, on_turn) -> None:
        """Append the outputs of programs whose time has come (exact: wait for them), or that are done (else)."""
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
            result, row.future = row.future.result(), None
            self.seconds_waiting += time.perf_counter() - began
            episode, turn = row.episode, row.episode.turns[-1]
            turn.output, turn.status = result.for_model(self.limits.results_chars), result.status
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

    def _sweep(self, rows: list[Row], cache: SlotCache, on_end, base: int = 0) -> None:
        """Take finished episodes out."""
        for i in reversed(range(len(rows))):
            if rows[i].episode.stop:
                self._end(rows[i].episode, rows[i].episode.stop, on_end)
                take_out(rows, i, cache, base)

    def _park(self, rows: list[Row], parked: list[Row], cache: SlotCache, queue: deque[Row]) -> bool:
        """Park rows that wait for their programs if all slots are taken and others are ready to use them; did any?

        One parking slot stays free between two steps: through it, a row that waits and one that need not change places.
        """
        ready = sum(row.future is None for row in parked)
        places = min(ready + len(queue), self.parking - len(parked) - (not ready)) if len(rows) == self.active else 0
        leaving = [i for i, row in enumerate(rows) if row.future and not row.future.done()][:max(0, places)]
        for i in reversed(leaving):
            cache.copy(i, self.active + len(parked), rows[i].cached)
            parked.append(take_out(rows, i, cache))
        return bool(leaving)

    def _unpark(self, rows: list[Row], parked: list[Row], cache: SlotCache) -> None:
        """Parked rows whose output is there, back into free slots."""
        for row in [row for row in parked if row.future is None][:self.active - len(rows)]:
            i = parked.index(row)
            cache.copy(self.active + i, len(rows), row.cached)
            rows.append(take_out(parked, i, cache, self.active))

    def _end(self, episode: Episode, stop: str, on_end) -> None:
        """Judge a finished episode. The answer is the policy's own; the check never sees tool output."""
        episode.stop = stop
        task = TASKS.get(episode.question.task)  # a question that somebody asks belongs to no task
        episode.correct = stop == "answer" and task is not None and task.check(episode.question, episode.answer)
        episode.reward = float(episode.correct)
        if on_end:
            on_end(episode)
