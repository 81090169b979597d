"""Rollouts: many multi-turn episodes at once, with the interpreter in the loop.

An episode is one growing list of token ids. The policy samples a turn; if it ends in a python block, the sandbox runs
the block and its output is appended as ids that the mask excludes; then the policy goes on, until it answers.

    ids   <system + question> I write a program. ```python .. ```  <results: 3>  The answer is <<<3>>> <end of turn>
    mask   0 0 0 0 0 0 0 0 0  1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1    0 0 0 0 0     1 1 1 1 1 1 1 1 1 1   1

The engine decodes up to `slots` episodes together, each in its own slot of one preallocated key/value cache and at its
own position, so a row may read its program's output while its neighbours write theirs. The queue holds all questions x
samples; a slot that gets free takes the next episode.

Three promises that training relies on (and tests hold):
- Token in, token out: ids are appended as sampled; nothing is decoded and encoded again.
- What is sampled is softmax(logits / temperature) and nothing else (no top-k, no repetition penalty unless asked for),
  and the log-probabilities are of that distribution, in float32.
- The random number of token t of episode i is a hash of (seed, i, t): it does not depend on the number of slots, and a
  program's output enters the batch a fixed number of steps after the program was written, not when it happens to be
  ready. So a run repeats exactly, whatever else the machine is doing.
"""
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field

import torch
from transformers import Cache
from transformers.cache_utils import CacheLayerMixin

from chat import Chat, find_code
from models import backbone, token_logprobs, unwrap
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


class SlotLayer(CacheLayerMixin):
    """Keys and values of one layer: (slots, heads, length, head size). Where to write is said by the SlotCache."""

    def __init__(self, cache: "SlotCache", shape: tuple[int, ...], dtype: torch.dtype, device):
        super().__init__()
        self.cache, self.is_initialized = cache, True
        self.keys, self.values = (torch.zeros(shape, dtype=dtype, device=device) for _ in range(2))

    def update(self, keys: torch.Tensor, values: torch.Tensor, *args, **kwargs):
        """Write (R, heads, T, size) at the current rows and positions; everything these rows may attend to."""
        rows, positions, length = self.cache.rows, self.cache.positions, self.cache.length
        self.keys[rows[:, None], :, positions] = keys.transpose(1, 2)
        self.values[rows[:, None], :, positions] = values.transpose(1, 2)
        # The first n slots are a view; other sets of rows (only in prefill) are gathered.
        rows = slice(len(rows)) if self.cache.leading else rows
        return self.keys[rows, :, :length], self.values[rows, :, :length]

    def lazy_initialization(self, *args, **kwargs):
        """Nothing to do: the memory is there from the start."""

    def get_seq_length(self) -> int:
        return 0  # each slot has its own length; positions and mask are always passed explicitly

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.cache.length, 0

    def get_max_cache_shape(self) -> int:
        return self.keys.shape[2]

    get_max_length = get_max_cache_shape


class SlotCache(Cache):
    """A key/value cache of fixed size in which every slot is at its own position."""

    def __init__(self, policy, slots: int, length: int):
        config = unwrap(policy).config
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        # One place more than needed: padding of short rows in a prefill is written there and never read.
        shape = (slots, config.num_key_value_heads, length + 1, size)
        weight = unwrap(policy).get_input_embeddings().weight
        super().__init__(layers=[SlotLayer(self, shape, weight.dtype, weight.device)
                                 for _ in range(config.num_hidden_layers)])
        self.capacity, self.device = length, weight.device

    @torch.no_grad()
    def forward(self, policy, rows: list[int], ids: list[list[int]], starts: list[int]) -> torch.Tensor:
        """Feed row i the tokens ids[i] from position starts[i] on; logits (R, V) after its last one, in float32."""
        width = max(map(len, ids))
        padded = torch.tensor([row + [0] * (width - len(row)) for row in ids], device=self.device)  # (R, T)
        steps = torch.arange(width, device=self.device)
        self.positions = (torch.tensor(starts, device=self.device)[:, None] + steps).clamp_max(self.capacity)
        self.length = min(max(starts) + width, self.capacity + 1)
        self.rows, self.leading = torch.tensor(rows, device=self.device), rows == list(range(len(rows)))
        # A token sees its own slot up to its own position; what lies behind (old or padding) is never seen.
        visible = torch.arange(self.length, device=self.device) <= self.positions[:, None, :, None]  # (R, 1, T, L)
        hidden = backbone(policy)(input_ids=padded, attention_mask=visible, position_ids=self.positions,
                                  past_key_values=self, use_cache=True).last_hidden_state  # (R, T, H)
        last = torch.tensor([len(row) - 1 for row in ids], device=self.device)
        hidden = hidden[torch.arange(len(rows), device=self.device), last]
        return unwrap(policy).get_output_embeddings()(hidden).float()

    def move(self, source: int, target: int, length: int) -> None:
        """Copy a slot's first `length` places to another slot."""
        for layer in self.layers:
            layer.keys[target, :, :length] = layer.keys[source, :, :length]
            layer.values[target, :, :length] = layer.values[source, :, :length]


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
    does not know the cut, paper.md pitfall 7); log-probs stay those of the uncut distribution.
    """
    if temperature == 0:
        ids = logits.argmax(-1)
        return ids, token_logprobs(logits, ids)[0]
    probs = torch.softmax(logits / temperature, dim=-1)
    if top_p < 1:
        ordered, order = probs.sort(-1, descending=True)
        ordered[ordered.cumsum(-1) - ordered >= top_p] = 0
        probs = torch.zeros_like(probs).scatter(-1, order, ordered)
    mass = probs.cumsum(-1)
    total = mass[:, -1:]  # rounding leaves it a little off 1
    level = torch.minimum((u[:, None] * total).to(mass.dtype), torch.nextafter(total, torch.zeros_like(total)))
    ids = torch.searchsorted(mass, level, right=True).squeeze(-1)  # "right": an id of probability 0 is never hit
    return ids, token_logprobs(logits, ids, temperature)[0]


@dataclass
class Row:
    """An episode in a slot: what is in its cache, what is not yet, and its running program."""
    episode: Episode
    number: int
    pending: list[int]  # ids not yet in the cache
    cached: int = 0
    turn_start: int = 0
    closed: bool = False  # did the policy itself write the end of its last turn?
    future: Future | None = None
    ready_at: int = 0  # decode step at which the program's output is taken


class Engine:
    """Runs questions x samples through policy and sandbox.

    policy: a model in eval mode; chat: the protocol (default: the interpreter protocol of this tokenizer);
    slots: episodes decoded together; lag: decode steps that a program may run beside its neighbours' decoding.
    """

    def __init__(self, policy, tokenizer, sandbox: Sandbox, limits: Limits | None = None, *, chat: Chat | None = None,
                 slots: int = 64, lag: int = 4):
        self.policy, self.tokenizer, self.sandbox, self.limits = policy, tokenizer, sandbox, limits or Limits()
        self.chat = chat or Chat(tokenizer)
        self.slots, self.lag = slots, lag
        self.ticks = {i for token, i in tokenizer.get_vocab().items() if "`" in token}  # may complete a fence
        self.seconds_waiting = 0.0

    def run(self, questions: Iterable[Question], samples: int = 1, *, temperature: float = 1.0, top_p: float = 1.0,
            seed: int = 0, first: int = 0, on_token: Callable[[Episode, int], None] | None = None,
            on_turn: Callable[[Episode, Turn], None] | None = None,
            on_end: Callable[[Episode], None] | None = None) -> list[Episode]:
        """Episodes in order: all samples of the first question, then of the second, and so on.

        first: the number of the first episode, where these are a part of more (random numbers go by it).
        """
        if self.policy.training:
            raise ValueError("rollouts need policy.eval(): training mode switches dropout on and the cache off")
        episodes = []
        for question in questions:
            prompt = self.chat.prompt_ids(question.prompt)
            for _ in range(samples):
                episodes.append(Episode(question, list(prompt), [0] * len(prompt), [0.0] * len(prompt)))
        queue = deque(Row(episode, number, list(episode.ids), turn_start=len(episode.ids))
                      for number, episode in enumerate(episodes, first))
        slots = min(self.slots, len(episodes))
        cache = SlotCache(self.policy, slots, self.limits.episode_tokens) if episodes else None
        rows: list[Row] = []  # row i occupies slot i
        step = 0
        while queue or rows:
            while queue and len(rows) < slots:
                row = queue.popleft()
                if len(row.pending) < self.limits.episode_tokens:
                    rows.append(row)
                else:
                    self._end(row.episode, "length", on_end)
            self._collect(rows, step, on_turn)
            self._sweep(rows, cache, on_end)
            behind = [i for i, row in enumerate(rows) if len(row.pending) > 1]
            ready = [i for i, row in enumerate(rows) if len(row.pending) == 1]
            if behind:  # new prompts and programs' outputs, together
                logits = self._feed(cache, rows, behind)
                self._extend([rows[i] for i in behind], logits, temperature, top_p, seed, step, on_token, on_turn)
            elif ready:
                logits = self._decode(cache, rows)[ready]
                self._extend([rows[i] for i in ready], logits, temperature, top_p, seed, step, on_token, on_turn)
            step += 1
            self._sweep(rows, cache, on_end)
        return episodes

    # -- the parts of one step -------------------------------------------------------------------------------------
    def _feed(self, cache: SlotCache, rows: list[Row], which: list[int]) -> torch.Tensor:
        """Prefill: bring the chosen rows' pending ids into the cache; logits after the last one."""
        logits = cache.forward(self.policy, which, [rows[i].pending for i in which], [rows[i].cached for i in which])
        for i in which:
            rows[i].cached, rows[i].pending = rows[i].cached + len(rows[i].pending), []
        return logits

    def _decode(self, cache: SlotCache, rows: list[Row]) -> torch.Tensor:
        """One token for every slot in use; rows that wait feed a dummy at a place that is written again later."""
        logits = cache.forward(self.policy, list(range(len(rows))), [row.pending or [0] for row in rows],
                               [row.cached for row in rows])
        for row in rows:
            if row.pending:
                row.cached, row.pending = row.cached + 1, []
        return logits

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
        """Append the outputs of programs whose time has come (waiting for them if they are not done)."""
        waiting = [row for row in rows if row.future]
        if waiting and len(waiting) == sum(not row.episode.stop for row in rows):
            step = max(step, min(row.ready_at for row in waiting))  # nobody decodes meanwhile: do not count steps
        for row in waiting:
            if row.ready_at > step:
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

    def _sweep(self, rows: list[Row], cache: SlotCache, on_end) -> None:
        """Take finished episodes out; the last slot moves into the hole, so slots in use stay the first ones."""
        for i in reversed(range(len(rows))):
            if not rows[i].episode.stop:
                continue
            self._end(rows[i].episode, rows[i].episode.stop, on_end)
            last = rows.pop()
            if i < len(rows):
                cache.move(len(rows), i, last.cached)
                rows[i] = last

    def _end(self, episode: Episode, stop: str, on_end) -> None:
        """Judge a finished episode. The answer is the policy's own; the check never sees tool output."""
        episode.stop = stop
        task = TASKS.get(episode.question.task)  # a question that somebody asks belongs to no task
        episode.correct = stop == "answer" and task is not None and task.check(episode.question, episode.answer)
        episode.reward = float(episode.correct)
        if on_end:
            on_end(episode)
