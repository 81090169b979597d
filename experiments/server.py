"""Models behind a server: the episodes of rollout.py over any OpenAI-compatible chat API.

    OPENAI_API_KEY=.. python r1ci.py evaluate --model openai:gpt-4o --tasks test --mode text
    python r1ci.py evaluate --model openai:NAME --base-url http://localhost:8000/v1
                                                     (vLLM, llama.cpp: no key needed)

Prompts (chat.Chat), sandbox, limits and checks are those of the engine on this machine, so the figures of
GPT-4o can be compared with those of a model trained here. Two things differ. Messages go out, not token ids:
such a model can be asked, not trained. And no stop sequence says "after the closing fence of a python block",
so a turn is cut there once it has arrived; what the model wrote behind it (often an invented output) is paid
for and never seen again.

A turn notes its place in the conversation as the server counts it: turn.start tokens before it, turn.end -
turn.start written. So the bill follows from the episodes, also from those that an earlier, interrupted
evaluation has paid for.

What goes wrong on the way (429, 5xx, cut connections, no answer in time) is tried again after longer and
longer waits; what cannot get better (no key, an unknown model) ends the command in one line. This module
needs the standard library only; torch comes in with the episodes of rollout.py.
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
from collections.abc import Callable, Container, Iterable
from email.utils import parsedate_to_datetime
from time import time
from urllib.parse import urlsplit

from chat import CODE_BLOCK, Chat, find_code
from runs import SERVED, Parser, UserError, real, whole, world_size
from sandbox import Sandbox
from tasks import TASKS, Question

OPENAI = "https://api.openai.com/v1"
AGAIN = {408, 429, 500, 502, 503, 504, 529}  # status codes that may be gone the next time
TRIES = 7
FIRST_WAIT = 1.0  # seconds; each wait is twice the one before: a minute in all
LONGEST_WAIT = 60.0
FREE = {"concurrency", "api_timeout", "price_in", "price_out"}  # flags that change no answer


class Engine:
    """Runs questions x samples against a chat API, `concurrency` episodes at a time, like rollout.Engine.

    limits: rollout.Limits. timeout: seconds without a byte until a call counts as failed.
    """

    def __init__(self, model: str, sandbox: Sandbox, limits, *, chat: Chat | None = None,
                 base_url: str | None = None, key: str | None = None, concurrency: int = 8,
                 timeout: float = 300.0):
        self.model = model.removeprefix(SERVED)
        self.sandbox = sandbox
        self.limits = limits
        self.chat = chat or Chat()
        self.url = (base_url or OPENAI).rstrip("/") + "/chat/completions"
        self.key = key
        self.concurrency = concurrency
        self.timeout = timeout
        self.reached = False  # has the server ever answered?
        self.limit_name = "max_tokens"
        address = urlsplit(self.url)
        if not self.model or address.scheme not in ("http", "https") or not address.hostname:
            raise UserError(f"--model {SERVED}NAME and --base-url http://HOST:PORT/v1 are needed, not "
                            f"{model} and {base_url}")
        if base_url is None and not key:
            raise UserError("no key: set OPENAI_API_KEY, or name a server that needs none with --base-url")

    def speak(self, mode: str, style: str) -> None:
        """Ask in this way from now on (see chat.PROMPTS)."""
        self.chat = Chat(None, mode, style, self.chat.answer_format)

    def run(self, questions: Iterable[Question], samples: int = 1, *, temperature: float = 1.0,
            top_p: float = 1.0, seed: int = 0, first: int = 0, skip: Container[int] = (),
            on_turn: Callable | None = None, on_end: Callable | None = None) -> list:
        """Episodes in order, as rollout.Engine.run, without those whose number is in `skip`.

        on_end(episode) runs in the calling thread, on_turn(episode, turn) in the episode's. The first error
        that stays stops everything: calls on their way are waited for, their episodes are kept if that was
        their last call, then the error is raised.
        """
        from rollout import Episode
        asked = [question for question in questions for _ in range(samples)]
        episodes = [Episode(question, [], [], [], number=number)
                    for number, question in enumerate(asked, first) if number not in skip]
        waiting: queue.SimpleQueue = queue.SimpleQueue()
        ended: queue.SimpleQueue = queue.SimpleQueue()
        for episode in episodes:
            waiting.put(episode)
        options = {"temperature": temperature, **({"top_p": top_p} if top_p < 1 else {})}
        stopping = threading.Event()  # of this run: a call left behind by Ctrl-C must not go on in the next

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

        threads = [threading.Thread(target=work, daemon=True)
                   for _ in range(min(self.concurrency, len(episodes)))]
        errors = []
        alive = len(threads)
        try:
            for thread in threads:
                thread.start()
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

    def _converse(self, episode, options: dict, seed: int, on_turn, stopping: threading.Event) -> None:
        """One episode from question to verdict, under the same rules as in rollout.Engine."""
        from rollout import Turn
        messages = self.chat.placed(self.chat.messages(episode.question.prompt))
        limits = self.limits
        used = 0  # tokens of the conversation so far
        while not episode.stop:
            room = min(limits.turn_tokens, limits.episode_tokens - used)
            if room < 1:
                episode.stop = "length"
                break
            digest = hashlib.sha256(f"{seed}/{episode.number}/{len(episode.turns)}".encode()).digest()
            own_seed = int.from_bytes(digest[:4], "big") >> 1
            text, finish, before, written = self._complete(
                messages, {**options, self.limit_name: room, "seed": own_seed}, stopping)
            code = find_code(text) if self.chat.mode != "text" else None
            text = text[:CODE_BLOCK.search(text).end()] if code is not None else text
            turn = Turn(before, before + written, text, code)
            episode.turns.append(turn)
            used = turn.end
            if code is not None:
                episode.stop = "calls" if episode.calls >= limits.calls else ""
            elif finish == "length":
                episode.stop = "length"
            else:
                episode.answer = self.chat.answer(text)
                episode.stop = "void" if episode.answer is None else "answer"
            if on_turn and not stopping.is_set():
                on_turn(episode, turn)
            if code is not None and not episode.stop:
                result = self.sandbox.run(code)
                turn.output = result.for_model(limits.results_chars)
                turn.status = result.status
                turn.seconds = result.seconds
                if on_turn and not stopping.is_set():
                    on_turn(episode, turn)
                messages += [{"role": "assistant", "content": text},
                             {"role": "user", "content": self.chat.results(turn.output)}]
                used += guess_tokens(turn.output)
        task = TASKS.get(episode.question.task)
        episode.correct = (episode.stop == "answer" and task is not None
                           and task.check(episode.question, episode.answer))
        episode.reward = float(episode.correct)

    def _complete(self, messages: list[dict], options: dict, stopping: threading.Event
                  ) -> tuple[str, str, int, int]:
        """(text, finish_reason, tokens read, tokens written) of one call, however many tries it takes."""
        broken = 0
        for attempt in range(TRIES):
            wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** attempt)
            wait *= random.uniform(0.75, 1.25)  # not all at once
            if stopping.is_set():
                raise _Stopped
            try:
                reply = self._post({"model": self.model, "messages": messages, **options})
                self.reached = True
                return completion(reply, messages)
            except urllib.error.HTTPError as error:
                self.reached = True
                said = message_of(error)
                problem = f"{error.code} {said}"
                if error.code == 400 and "max_completion_tokens" in said and "max_tokens" in options:
                    self.limit_name = "max_completion_tokens"  # OpenAI's reasoning models
                    options = dict(options)
                    options[self.limit_name] = options.pop("max_tokens")
                    continue
                if error.code not in AGAIN or "insufficient_quota" in said:
                    raise self._final_error(error.code, said) from None
                wait = max(wait, retry_after(error.headers.get("Retry-After")))
            except (ValueError, KeyError, TypeError, IndexError, AttributeError):  # no JSON, or no completion
                broken += 1
                problem = "no chat completion in its answer"
                if broken == 2:
                    raise UserError(
                        f"{self.url} answers, but twice in a row with something that is no chat completion: "
                        "is --base-url the address of an OpenAI-compatible API (.../v1)?") from None
            except (OSError, http.client.HTTPException) as error:
                problem = self._connection_problem(error)
            if attempt + 1 < TRIES:
                stopping.wait(wait)
        raise UserError(f"{self.url} failed {TRIES} times in a row, at last with: {problem}. What is done is "
                        "kept: the same command goes on")

    def _post(self, body: dict) -> dict:
        headers = {"Content-Type": "application/json",
                   **({"Authorization": f"Bearer {self.key}"} if self.key else {})}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        with _OPENER.open(request, timeout=self.timeout) as response:
            return json.loads(response.read())

    def _connection_problem(self, error: Exception) -> str:
        """What is wrong with the connection, in words; UserError if there never was one."""
        reason = getattr(error, "reason", error)
        passing = isinstance(reason, (TimeoutError, http.client.RemoteDisconnected, ConnectionResetError))
        if not self.reached and isinstance(reason, OSError) and not passing:
            raise UserError(f"cannot reach {self.url} ({reason}): is the server running there?") from None
        if isinstance(reason, TimeoutError):
            return "no answer in time"
        return str(reason) or type(reason).__name__

    def _final_error(self, status: int, said: str) -> UserError:
        """The error for a status that will not change."""
        if status in (401, 403):
            return UserError(f"{self.url} does not accept the key ({status}): set OPENAI_API_KEY to a valid "
                             "one")
        if status == 404:
            return UserError(f"{self.url} knows no model {self.model!r}, or has nothing at this address "
                             f"(404): {said}")
        return UserError(f"{self.url} refuses ({status}): {said}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: following it would hand the key to whoever is named there."""

    def redirect_request(self, *_):
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


class _Stopped(Exception):
    """This episode was given up, because another one met an error that stays."""


def completion(reply: dict, messages: list[dict]) -> tuple[str, str, int, int]:
    """(text, finish_reason, tokens read, tokens written) in a server's answer to these messages."""
    choice = reply["choices"][0]
    text = choice["message"]["content"] or ""  # None: refused, or a reasoning model that ran out of room
    counted = reply.get("usage") or {}
    read = counted.get("prompt_tokens", sum(guess_tokens(message["content"]) for message in messages))
    written = counted.get("completion_tokens", guess_tokens(text))
    return text, choice.get("finish_reason") or "", int(read), int(written)


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


# ---------------------------------------------------------------------------------------------------- costs
def usage(episodes: list, price_in: float | None, price_out: float | None) -> dict:
    """Tokens read and written by all calls, and what they cost in dollars (None without prices)."""
    read = sum(turn.start for episode in episodes for turn in episode.turns)
    written = sum(turn.end - turn.start for episode in episodes for turn in episode.turns)
    known = price_in is not None and price_out is not None
    return {"tokens_read": read, "tokens_written": written,
            "dollars": (read * price_in + written * price_out) / 1e6 if known else None}


def bill(used: dict) -> str:
    """The same in words."""
    dollars = used["dollars"]
    cost = "cost unknown (--price-in, --price-out)" if dollars is None else f"${dollars:.4f}"
    return f"{used['tokens_read']:,} tokens read, {used['tokens_written']:,} written: {cost}"


# ---------------------------------------------------------------------------------------- flags and command
def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags about servers."""
    add = parser.add_argument_group(f"models behind a server ({SERVED}NAME)").add_argument
    add("--base-url", help=f"address of the API, such as http://localhost:8000/v1 (without: {OPENAI}); the "
        "key is read from OPENAI_API_KEY")
    add("--concurrency", type=whole(), default=8, help="episodes at a time")
    add("--api-timeout", type=real(0.01, 86400), default=300.0, help="seconds to wait for an answer")
    add("--price-in", type=real(0, 1e6), help="dollars per million tokens read")
    add("--price-out", type=real(0, 1e6), help="dollars per million tokens written")


def open_engine(args: argparse.Namespace, folder, box: Sandbox) -> Engine:
    """The engine that the flags describe; `folder` (of a policy on this machine) is not looked at."""
    from rollout import Limits
    limits = Limits(args.turn_tokens, args.episode_tokens, args.calls, args.results_chars)
    return Engine(args.model, box, limits, chat=Chat(None, args.mode, args.style, args.answer_format),
                  base_url=args.base_url, key=os.environ.get("OPENAI_API_KEY"),
                  concurrency=args.concurrency, timeout=args.api_timeout)


def evaluate_command(argv: list[str]) -> dict:
    """evaluate.py, also for a model behind a server; for one on this machine the two are the same."""
    parser = Parser("r1ci.py evaluate", evaluate_command.__doc__,
                    epilog="All other flags are those of evaluate.py: evaluate.py --help")
    parser.add_argument("--model", default="", help=f"{SERVED}NAME, or what evaluate.py takes")
    add_arguments(parser)
    model = parser.parse_known_args(argv)[0].model
    import evaluate
    if not model.startswith(SERVED):
        return evaluate.main(argv)
    if world_size() > 1:
        raise UserError("a model behind a server is asked by one process, which sends many questions at "
                        "once: start it without torchrun")
    args = evaluate.parse(argv, more=add_arguments)
    result, episodes = evaluate.run(args, open_engine=open_engine, free=evaluate.FREE | FREE)
    used = usage(episodes, args.price_in, args.price_out)
    print(f"\n{bill(used)}")
    return result | used
