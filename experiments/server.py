"""Models behind a server: the episodes of rollout.py over any OpenAI-compatible chat API.

    OPENAI_API_KEY=.. python evaluate.py --model openai:gpt-4o --tasks test --mode text
    python evaluate.py --model openai:NAME --base-url http://localhost:8000/v1      vLLM, llama.cpp: no key needed

The same prompts (chat.Protocol), sandbox, limits and checks as the engine's, so that the rows of GPT-4o and of a model
trained here can be compared. Two things differ. Messages go out, not token ids: such a model can be asked, not
trained. And no stop sequence says "after the closing fence of a python block", so a turn is cut there when it has come;
what the model wrote behind it (often an invented output) is paid for and never seen again.

A turn knows its place in the conversation by the server's own count: turn.start tokens before it, turn.end - turn.start
written. So the bill follows from the episodes, also of those that an earlier, killed evaluation has paid for.

What goes wrong on the way (429, 5xx, cut connections, no answer in time) is tried again, later and later; what cannot
get better (no key, an unknown model) ends the evaluation in one line. Standard library only.
"""
import argparse
import contextlib
import hashlib
import http.client
import json
import os
import queue
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from urllib.parse import urlsplit

from chat import RESULTS, Protocol, find_code, until_code
from flags import positive
from presets import SERVED
from rollout import Episode, Limits, Turn
from sandbox import Sandbox
from tasks import TASKS, Question

PREFIX = SERVED
OPENAI = "https://api.openai.com/v1"
AGAIN = {408, 429, 500, 502, 503, 504, 529}  # may be gone the next time
TRIES, FIRST_WAIT, LONGEST_WAIT = 7, 1.0, 60.0  # waits of 1, 2, 4 .. seconds: a minute in all
FREE = {"concurrency", "api_timeout", "price_in", "price_out"}  # flags that change no answer


class ApiError(Exception):
    """The server cannot be used; the message says what is wrong and what would be right."""


@dataclass
class Answered(Episode):
    """An episode that a server wrote: no ids, and its number among all episodes."""
    number: int = 0


class Engine:
    """As rollout.Engine: runs questions x samples, `concurrency` episodes at a time, against a chat API.

    timeout: seconds without a byte until a call counts as failed.
    """

    def __init__(self, model: str, sandbox: Sandbox, limits: Limits | None = None, *, chat: Protocol | None = None,
                 base_url: str | None = None, key: str | None = None, concurrency: int = 8, timeout: float = 300.0):
        self.model, self.sandbox, self.limits = model.removeprefix(PREFIX), sandbox, limits or Limits()
        self.chat = chat or Protocol()
        self.url, self.key = (base_url or OPENAI).rstrip("/") + "/chat/completions", key
        if not self.model or urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise ApiError(f"--model {PREFIX}NAME and --base-url http://HOST:PORT/v1 are needed, not {model} and {base_url}")
        if base_url is None and not key:
            raise ApiError("no key: set OPENAI_API_KEY, or name a server that needs none with --base-url")
        self.concurrency, self.timeout = concurrency, timeout
        self.reached = False  # has the server ever answered?
        self.limit_name = "max_tokens"

    def run(self, questions: Iterable[Question], samples: int = 1, *, temperature: float = 1.0, top_p: float = 1.0,
            seed: int = 0, first: int = 0, skip: Iterable[int] = (),
            on_turn: Callable[[Episode, Turn], None] | None = None,
            on_end: Callable[[Episode], None] | None = None) -> list[Answered]:
        """Episodes in order, as rollout.Engine.run, without those whose number is in `skip`.

        Callbacks run in the calling thread (on_end) and in the episode's (on_turn). The first error for good stops all:
        calls on their way are waited for, their episodes are kept if that was their last call, then it is raised.
        """
        asked = [question for question in questions for _ in range(samples)]
        episodes = [Answered(question, [], [], [], number=first + i) for i, question in enumerate(asked)]
        episodes = [episode for episode in episodes if episode.number not in set(skip)]
        waiting, ended = queue.SimpleQueue(), queue.SimpleQueue()
        for episode in episodes:
            waiting.put(episode)
        options = {"temperature": temperature, **({"top_p": top_p} if top_p < 1 else {})}
        stopping = threading.Event()  # of this run: a call that Ctrl-C left behind must not wake up in the next one

        def work() -> None:
            try:
                while not stopping.is_set():
                    episode = waiting.get_nowait()
                    self._converse(episode, options, seed, on_turn, stopping)
                    ended.put(episode)
            except queue.Empty:
                pass
            except BaseException as error:  # noqa: BLE001  (raised again by the calling thread)
                stopping.set()
                ended.put(error)
            ended.put(None)

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(self.concurrency, len(episodes)))]
        errors, alive = [], len(threads)
        for thread in threads:
            thread.start()
        try:
            while alive:
                what = ended.get()
                if what is None:
                    alive -= 1
                elif isinstance(what, BaseException):
                    errors.append(what)
                elif on_end:
                    on_end(what)
        finally:
            stopping.set()  # Ctrl-C: threads die with the program, or after their call
        if errors:
            raise next((error for error in errors if not isinstance(error, _Stopped)), errors[0])
        return episodes

    def _converse(self, episode: Answered, options: dict, seed: int, on_turn, stopping: threading.Event) -> None:
        """One episode from question to verdict, under the same rules as rollout.Engine."""
        messages = self.chat.messages(episode.question.prompt)
        used, limits = 0, self.limits  # tokens of the conversation so far
        while not episode.stop:
            room = min(limits.turn_tokens, limits.episode_tokens - used)
            if room < 1:
                episode.stop = "length"
                break
            digest = hashlib.sha256(f"{seed}/{episode.number}/{len(episode.turns)}".encode()).digest()
            text, finish, before, written = self._complete(
                messages, {**options, self.limit_name: room, "seed": int.from_bytes(digest[:4], "big") >> 1}, stopping)
            code = find_code(text) if self.chat.mode != "text" else None
            text = until_code(text) if code is not None else text
            turn = Turn(before, before + written, text, code)
            episode.turns.append(turn)
            used = turn.end
            if code is None:
                episode.answer = None if finish == "length" else self.chat.answer(text)
                episode.stop = "length" if finish == "length" else "void" if episode.answer is None else "answer"
            elif episode.calls >= limits.calls:
                episode.stop = "calls"
            if on_turn and not stopping.is_set():
                on_turn(episode, turn)
            if code is not None and not episode.stop:
                result = self.sandbox.run(code)
                turn.output, turn.status = result.for_model(limits.results_chars), result.status
                turn.seconds = result.seconds
                if on_turn and not stopping.is_set():
                    on_turn(episode, turn)
                messages += [{"role": "assistant", "content": text}, {"role": "user", "content": RESULTS + turn.output}]
                used += guess_tokens(turn.output)
        task = TASKS.get(episode.question.task)
        episode.correct = episode.stop == "answer" and task is not None and task.check(episode.question, episode.answer)
        episode.reward = float(episode.correct)

    def _complete(self, messages: list[dict], options: dict, stopping: threading.Event) -> tuple[str, str, int, int]:
        """(text, finish_reason, tokens read, tokens written) of one call, however often it takes."""
        broken = 0
        for attempt in range(TRIES):
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** attempt) * random.uniform(0.75, 1.25)  # not all at once
            if stopping.is_set():
                raise _Stopped
            try:
                reply = self._post({"model": self.model, "messages": messages, **options})
                self.reached = True
                choice = reply["choices"][0]
                text = choice["message"]["content"] or ""  # None: refused, or a reasoning model that ran out of room
                usage = reply.get("usage") or {}
                read = usage.get("prompt_tokens", sum(guess_tokens(message["content"]) for message in messages))
                return text, choice.get("finish_reason") or "", int(read), int(usage.get("completion_tokens",
                                                                                          guess_tokens(text)))
            except urllib.error.HTTPError as error:
                self.reached, said = True, message_of(error)
                problem = f"{error.code} {said}"
                if error.code == 400 and "max_completion_tokens" in said and "max_tokens" in options:
                    self.limit_name = "max_completion_tokens"  # OpenAI's reasoning models
                    options = {name: value for name, value in options.items() if name != "max_tokens"} | {
                        self.limit_name: options["max_tokens"]}
                    continue
                if error.code not in AGAIN or "insufficient_quota" in said:
                    raise self._for_good(error.code, said) from None
                wait = max(wait, retry_after(error.headers.get("Retry-After")))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError):  # no JSON, or no completion
                broken, problem = broken + 1, "no chat completion in its answer"
                if broken == 2:
                    raise ApiError(f"{self.url} answers, but twice in a row with something that is no chat completion: is "
                                   "--base-url the address of an OpenAI-compatible API (.../v1)?") from None
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                problem = "no answer in time" if isinstance(reason, TimeoutError) else str(reason) or type(reason).__name__
                if not self.reached and isinstance(reason, OSError) and not isinstance(
                        reason, (TimeoutError, http.client.RemoteDisconnected, ConnectionResetError)):
                    raise ApiError(f"cannot reach {self.url} ({reason}): is the server running there?") from None
            if attempt + 1 < TRIES:
                stopping.wait(wait)
        raise ApiError(f"{self.url} failed {TRIES} times in a row, at last with: {problem}. What is done is kept: the same "
                       "command goes on")

    def _post(self, body: dict) -> dict:
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.key}"} if self.key else {})}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        with _OPENER.open(request, timeout=self.timeout) as response:
            return json.loads(response.read())

    def _for_good(self, status: int, said: str) -> ApiError:
        """The error for a status that will not change."""
        if status in (401, 403):
            return ApiError(f"{self.url} does not accept the key ({status}): set OPENAI_API_KEY to a valid one")
        if status == 404:
            return ApiError(f"{self.url} knows no model {self.model!r}, or has nothing at this address (404): {said}")
        return ApiError(f"{self.url} refuses ({status}): {said}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: following it would hand the key to whoever is named there."""

    def redirect_request(self, *_):
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


class _Stopped(Exception):
    """This episode was given up, because another one failed for good."""


def guess_tokens(text: str) -> int:
    """Tokens of a text where the server does not count them: four characters each."""
    return -(-len(text) // 4)


def message_of(error: urllib.error.HTTPError) -> str:
    """What the server says about an error, on one line."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        text = error.read(4000).decode("utf-8", "replace")
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            said = json.loads(text)["error"]
            text = f"{said['message']} {said.get('code') or ''}" if isinstance(said, dict) else str(said)
        return " ".join(text.split())[:300] or str(error.reason)
    return str(error.reason)


def retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for (a number, or a date); 0 without. At most ten minutes."""
    seconds = 0.0
    if value:
        try:
            seconds = float(value)
        except ValueError:
            with contextlib.suppress(ValueError):
                seconds = parsedate_to_datetime(value).timestamp() - time()
    return min(600.0, max(0.0, seconds))


# ----------------------------------------------------------------------------------------------------------- cost
def usage(episodes: list[Episode], price_in: float | None, price_out: float | None) -> dict:
    """Tokens read and written by all calls, and what they cost in dollars (None without prices per million)."""
    read = sum(turn.start for e in episodes for turn in e.turns)
    written = sum(turn.end - turn.start for e in episodes for turn in e.turns)
    known = price_in is not None and price_out is not None
    return {"tokens_read": read, "tokens_written": written,
            "dollars": (read * price_in + written * price_out) / 1e6 if known else None}


def bill(used: dict) -> str:
    """The same in words."""
    cost = "cost unknown (--price-in, --price-out)" if used["dollars"] is None else f"${used['dollars']:.4f}"
    return f"{used['tokens_read']:,} tokens read, {used['tokens_written']:,} written: {cost}"


# ------------------------------------------------------------------------------------------------------- the flags
def price(text: str) -> float:
    """Dollars, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"a number of dollars is needed, not {text!r}")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags about servers."""
    group = parser.add_argument_group(f"models behind a server ({PREFIX}NAME)")
    group.add_argument("--base-url", help=f"address of the API, such as http://localhost:8000/v1 (default: {OPENAI}); the "
                       "key is read from OPENAI_API_KEY")
    group.add_argument("--concurrency", type=positive, default=8, help="episodes at a time")
    group.add_argument("--api-timeout", type=price, default=300.0, help="seconds to wait for an answer")
    group.add_argument("--price-in", type=price, help="dollars per million tokens read")
    group.add_argument("--price-out", type=price, help="dollars per million tokens written")


def from_args(model: str, box: Sandbox, args: argparse.Namespace) -> Engine:
    """The engine that the flags describe."""
    limits = Limits(args.turn_tokens, args.episode_tokens, args.calls, args.results_chars)
    return Engine(model, box, limits, chat=Protocol(args.mode, args.style, args.answer_format), base_url=args.base_url,
                  key=os.environ.get("OPENAI_API_KEY"), concurrency=args.concurrency, timeout=args.api_timeout)
