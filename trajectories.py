"""Worked conversations to warm-start from: oracle programs really run, wrapped in words, kept only if right.

The paper's teacher is GPT-4o; at most 70 right conversations per task are kept. Instead we have an oracle
program for every task (always right, never creative). From it come six kinds of conversation:

    reason   a worked solution in words                            text-solvable tasks only
    guess    the right answer straight away, in words              right, but without visible work
    code     a program, its real output, the answer
    repair   a program with a slip, the real error, the repaired program, its output, the answer
    recheck  a program, its output, a second program that tests it another way, the answer
    fallback a program with a slip, the real error, then words after all, as in reason or guess

`guess` is the honest part of any teacher's data: a model trained on it knows two ways to answer and no way to
choose, which is what reinforcement learning is there to teach. `fallback`: for models that seldom repair."""
import random
from collections import defaultdict
from collections.abc import Iterable

from chat import Chat, state_answer
from sandbox import Sandbox
from tasks import TASKS, Question

WITH_SLIP = ("repair", "fallback")  # their first program fails
WORDINGS = {
    "reason": ["I think step by step. ", "I can see this without a program. ", "In words: "],
    "guess": ["I answer directly.", "The answer is clear to me.", "No program is needed here."],
    "code": ["I write a program.", "A program will tell.", "Let me run python."],
    "answer": ["The program says so.", "The output is the answer.", "This is the result."],
    "error": ["That failed: {error} I repair it.", "There was a slip: {error} Once more.",
              "I see: {error} I fix this."],
    "check": ["I check this another way.", "Let me test that.", "Before I answer, a test."],
    "checked": ["The test agrees.", "It holds.", "Both ways agree."],
}
# Not in WORDINGS: the tiny tokenizer is made from those.
FALLBACK = ["That failed. I answer without a program. ", "Then in words: ", "No more programs. "]


def block(program: str) -> str:
    """A program as the policy writes it."""
    return f"```python\n{program.strip()}\n```"


def slip(program: str, rng: random.Random) -> str:
    """The program with a slip that programmers make: a misspelt name, a lost bracket or a lost import."""
    lines = program.splitlines()
    last = max(i for i, line in enumerate(lines) if "print(" in line)
    slips = [lines[:last] + [lines[last].replace("print(", "pritn(", 1)] + lines[last + 1:]]
    if lines[last].endswith(")"):
        slips.append(lines[:last] + [lines[last][:-1]] + lines[last + 1:])
    if any("import " in line for line in lines):
        slips.append([line for line in lines if "import " not in line])
    return "\n".join(rng.choice(slips))


def choose_kind(question: Question, rng: random.Random, text_share: float, multi_share: float,
                fallback_share: float = 0.0) -> str:
    """Words with probability `text_share`; else code: a share falls back to words, a share is multi-turn."""
    if rng.random() < text_share or not question.data["program"]:  # a question from a file has no oracle
        return "reason" if question.data["reasoning"] else "guess"
    if fallback_share and rng.random() < fallback_share:  # 0 draws no number: other draws stay the same
        return "fallback"
    if rng.random() < multi_share:
        return "recheck" if question.data["recheck"] and rng.random() < 0.5 else "repair"
    return "code"


def programs_of(question: Question, kind: str, rng: random.Random) -> list[str]:
    """The programs to run, in order (the recheck program is filled in when the first output is known)."""
    oracle = TASKS[question.task].oracle(question)
    if oracle is None:
        return []
    broken = slip(oracle, rng)  # drawn for every kind: what is drawn after it does not depend on the kind
    known = kind == "reason" or kind == "guess" and question.data["answer"] is not None
    return [broken, oracle] if kind in WITH_SLIP else [] if known else [oracle]


def make(questions: Iterable[Question], chat: Chat, sandbox: Sandbox, *, text_share: float = 0.5,
         multi_share: float = 0.2, fallback_share: float = 0.0, per_task: int = 70, keep_wrong: bool = False,
         learn_slips: bool = False, progress=None) -> list[dict]:
    """Conversations about these questions, at most `per_task` per task: [{"task", "seed", "level", "kind",
    "messages"}]. Deterministic: kind and wording are drawn from the question's own name, seed and level. A
    conversation is kept if its final answer passes the task's check (the paper's rule; `keep_wrong` switches
    it off, and then half of the guesses answer another question). The program with a slip is there to be
    read: its message says "learn": False, as a policy trained to write slips (`learn_slips`) writes them."""
    kept, count = [], defaultdict(int)
    questions = list(questions)
    for first in range(0, len(questions), 256):  # programs of a batch run side by side
        started = []
        for question in questions[first:first + 256]:
            rng = random.Random(f"trajectory/{question.task}/{question.level}/{question.seed}")
            kind = choose_kind(question, rng, text_share, multi_share, fallback_share)
            solved = question
            wrong = random.Random(f"wrong/{question.task}/{question.seed}").random() < 0.5
            if keep_wrong and kind == "guess" and wrong:
                solved = TASKS[question.task].question(question.seed + 1, question.level)
            programs = programs_of(solved, kind, rng)
            started.append((question, solved, kind, rng, programs, list(map(sandbox.submit, programs))))
        for question, solved, kind, rng, programs, futures in started:
            if progress is not None:
                progress.update()
            results = [future.result() for future in futures]
            if count[question.task] >= per_task:
                continue
            turns, answer = converse(solved, kind, rng, programs, results, sandbox)
            if turns is None or not (keep_wrong or TASKS[question.task].check(question, answer)):
                continue
            turns[-1] += state_answer(answer, chat.answer_format)
            prompt = question.prompt
            if rng.random() < 0.1:  # people who ask do not write a format line
                prompt = prompt.rpartition("\nAnswer format:")[0] or prompt
            messages = chat.messages(prompt)
            for role, turn in zip(["assistant", "user"] * len(turns), turns):
                messages.append({"role": role, "content": chat.results(turn) if role == "user" else turn})
            if kind in WITH_SLIP and not learn_slips:
                messages[2]["learn"] = False
            count[question.task] += 1
            kept.append({"task": question.task, "seed": question.seed, "level": question.level,
                         "kind": kind, "messages": messages})
    return kept


def converse(question: Question, kind: str, rng: random.Random, programs: list[str], results: list,
             sandbox: Sandbox) -> tuple[list[str] | None, str]:
    """The turns of one conversation (policy, platform, ..) and its answer; None if a program misbehaved."""
    def say(what: str, **values) -> str:
        return rng.choice(WORDINGS[what]).format(**values)

    def in_words() -> tuple[str, str]:
        worked, _, answer = TASKS[question.task].reasoning(question).rpartition("<<<")
        return worked, answer.removesuffix(">>>")

    if kind == "reason":
        worked, answer = in_words()
        return [say("reason") + worked], answer
    if kind == "guess" and not results:
        return [say("guess") + " "], question.data["answer"]
    answer = results[-1].stdout.strip()
    if results[-1].status != "ok" or results[-1].truncated:
        return None, ""
    if kind == "guess":
        return [say("guess") + " "], answer
    turns = [f"{say('code')}\n{block(programs[0])}", results[0].for_model()]
    if kind in WITH_SLIP and results[0].status != "error":  # this slip happened to do no harm
        return None, ""
    if kind == "fallback":
        worked, answer = in_words() if question.data["reasoning"] else ("", answer)
        return [*turns, rng.choice(FALLBACK) + worked], answer
    if kind == "repair":
        error = results[0].for_model().strip().splitlines()[-1]
        turns += [f"{say('error', error=error)}\n{block(programs[1])}", results[1].for_model()]
    if kind == "recheck":
        program = question.data["recheck"].replace("{answer}", answer)
        result = sandbox.run(program)
        if result.stdout.strip() != "True":
            return None, ""
        check = f"{say('check')}\n{block(program)}"
        return [*turns, check, result.for_model(), say("checked") + " "], answer
    return [*turns, say("answer") + " "], answer


def encode(chat: Chat, messages: list[dict]) -> tuple[list[int], list[int]]:
    """A conversation as (ids, mask): mask 1 exactly on what the assistant wrote, its end of turn included,
    but not where a message says "learn": False. Built from the same pieces that the rollout engine adds."""
    if [m["role"] for m in messages[:2]] != ["system", "user"] or messages[-1]["role"] != "assistant":
        raise ValueError("a conversation must start with system and user and end with assistant")
    ids = chat.prompt_ids(messages[1]["content"], messages[0]["content"])
    mask = [0] * len(ids)
    for message in messages[2:]:
        assistant = message["role"] == "assistant"
        piece = chat.turn_ids(message["content"]) if assistant else chat.user_ids(message["content"])
        ids += piece
        mask += [int(assistant and message.get("learn", True))] * len(piece)
    return ids, mask
