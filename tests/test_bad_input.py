"""Bad input to any command: one clear line, exit code 2, no traceback, and nothing is written or lost."""
import json
import shlex

import pytest

import curriculum
import evaluate
import grpo
import r1ci
import runs
import sft

SCRIPTS = {"grpo": grpo, "sft": sft, "evaluate": evaluate, "curriculum": curriculum, "r1ci": r1ci}
FILES = {
    "list.jsonl": "[1]\n", "cut.jsonl": '{"question": "x", "ans', "none.jsonl": "\n\n",
    "latin.jsonl": '{"question": "caf\u00e9?", "answer": "1"}\n'.encode("latin-1"),
    "number.jsonl": '{"question": "x", "answer": "many", "match": "number"}\n',
    "options.jsonl": '{"question": "x", "answer": "C", "options": ["a", "b"]}\n',
    "taken.jsonl": '{"question": "x", "answer": "1", "task": "game24"}\n',
    "twice.jsonl": '{"question": "x", "answer": "1"}\n{"question": "x", "answer": "2"}\n',
    "long.jsonl": json.dumps({"question": "x", "answer": "1" * 100_000}) + "\n",
    "chat-list.jsonl": '["user", "hello"]\n', "chat-keys.jsonl": '{"prompt": "x", "completion": "y"}\n',
    "chat-null.jsonl": '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": '
    'null}]}\n',
    "chat-tool.jsonl": '{"messages": [{"role": "user", "content": "x"}, {"role": "tool", "content": "4"}]}\n',
    "chat-role.jsonl": '{"conversations": [{"from": "narrator", "value": "x"}]}\n',
    "chat-order.jsonl": '{"messages": [{"role": "assistant", "content": "x"}, {"role": "user", "content": '
    '"y"}]}\n', "chat-empty.jsonl": '{"messages": []}\n', "chat-text.jsonl": '{"messages": "hello"}\n',
    "chat-latin.jsonl": b'{"messages": [{"role": "user", "content": "\xe9"}]}\n',
    "chat-deep.jsonl": "[" * 100_000 + "\n",
    "chat-long.jsonl": json.dumps({"messages": [{"role": "user", "content": "x"},
                                                {"role": "assistant", "content": "word " * 900}]}) + "\n",
    "stuff/notes.txt": "no model here", "thesis/config.json": '{"title": "mine"}',
    "thesis/thesis.txt": "words",
    "damaged/config.json": "{", "odd/config.json": "[1]", "other/config.json": '{"model": "3b"}',
    "inside/model/config.json": '{"model_type": "llama"}', "inside/data.jsonl": "{}",
    "repository/.git/HEAD": "ref", "eval.json": '{"each": 3}', "text.txt": "text",
}
CASES = """
grpo --model gpt5                                         | unknown model
grpo --model ./stuff                                      | config.json
grpo --model nobody/nothing                               | no network
grpo --model openai:gpt-4o                                | no weights
grpo --model ''                                           | config.json
grpo --preset huge                                        | --preset
grpo --random-weights --model nobody/nothing              | --random-weights knows
grpo --lr nan                                             | --lr: a number from 0 to 1
grpo --lr -1                                              | --lr: a number from 0 to 1
grpo --lr 1e30                                            | --lr: a number from 0 to 1
grpo --lr fast                                            | --lr: a number from 0 to 1
grpo --temperature 0                                      | --temperature: a number from 0.01
grpo --temperature -1                                     | --temperature: a number from 0.01
grpo --temperature nan                                    | --temperature: a number from 0.01
grpo --temperature inf                                    | --temperature: a number from 0.01
grpo --kl nan                                             | --kl: a number from 0
grpo --kl -5                                              | --kl: a number from 0
grpo --clip-high -1                                       | --clip-high: a number from 0
grpo --dual-clip -3                                       | --dual-clip: a number from 0
grpo --importance-cap -2                                  | --importance-cap: a number from 0
grpo --samples 0                                          | --samples: a whole number from 1 to 1,024
grpo --samples 1000000000                                 | --samples: a whole number from 1 to 1,024
grpo --samples 2.5                                        | --samples: a whole number
grpo --questions 0                                        | --questions: a whole number
grpo --questions 1000000000                               | --questions: a whole number
grpo --steps 0                                            | --steps: a whole number
grpo --steps -3                                           | --steps: a whole number
grpo --epochs 0                                           | --epochs: a whole number
grpo --eval-questions -5                                  | --eval-questions: a whole number from 0
grpo --save-every 0                                       | --save-every: a whole number
grpo --micro-tokens 0                                     | --micro-tokens: a whole number
grpo --seed -1                                            | --seed: a whole number from 0
grpo --seed 10000000000000000000000                       | --seed: a whole number from 0
grpo --turn-tokens 0                                      | --turn-tokens: a whole number
grpo --episode-tokens 10                                  | --episode-tokens: a whole number from 32
grpo --calls 0                                            | --calls: a whole number
grpo --slots 0                                            | --slots: a whole number
grpo --lora-rank -1                                       | --lora-rank: a whole number from 0
grpo --sandbox-timeout 0                                  | --sandbox-timeout: a number from 0.01
grpo --sandbox-timeout nan                                | --sandbox-timeout: a number from 0.01
grpo --sandbox none                                       | --sandbox
grpo --device cuda                                        | torch sees cpu
grpo --device cuda:7                                      | torch sees cpu
grpo --device banana                                      | torch sees cpu
grpo --device ''                                          | torch sees cpu
grpo --dtype float8                                       | --dtype
grpo --quantize nf4                                       | --lora-rank above 0
grpo --quantize int3                                      | --quantize
grpo --algorithm dpo                                      | grpo, dr-grpo, reinforce, ppo
grpo --reward love                                        | outcome, shaped
grpo --reward json:love                                   | MODULE:FUNCTION
grpo --reward nowhere:love                                | No module named 'nowhere'
grpo --aggregate mean                                     | --aggregate
grpo --curriculum hard                                    | --curriculum
grpo --mode both                                          | --mode
grpo --answer-format xml                                  | --answer-format
grpo --levels 9                                           | levels go from 1
grpo --levels 0-3                                         | levels go from 1
grpo --levels 3-1                                         | levels go from 1
grpo --levels ,                                           | levels go from 1
grpo --tasks chess                                        | r1ci.py tasks
grpo --tasks ''                                           | no task selected
grpo --tasks list.jsonl                                   | line 1: an object is needed
grpo --tasks cut.jsonl                                    | line 1: not JSON
grpo --tasks none.jsonl                                   | holds no questions
grpo --tasks latin.jsonl                                  | line 1: not UTF-8
grpo --tasks number.jsonl                                 | line 1: the answer 'many' cannot be read as number
grpo --tasks options.jsonl                                | line 1: the answer 'C' is none of the options
grpo --tasks taken.jsonl                                  | line 1: 'game24' is the name of a built-in task
grpo --tasks twice.jsonl                                  | line 2: the same question has another answer
grpo --tasks long.jsonl                                   | line 1: the answer has 100000 characters
grpo --tasks nowhere.jsonl                                | cannot read nowhere.jsonl
grpo --tasks stuff.jsonl/                                 | no task
grpo --init warm                                          | --init
grpo --init sft --sft-run typo                            | no SFT checkpoint in typo
grpo --sft-run typo                                       | no SFT checkpoint in typo
grpo --resume                                             | no run to resume
grpo --resume --out thesis                                | no run to resume
grpo --out thesis                                         | config.json, which no run wrote
grpo --out thesis --overwrite                             | config.json, which no run wrote
grpo --out .                                              | the folder you are in
grpo --out ''                                             | the folder you are in
grpo --out . --overwrite                                  | the folder you are in
grpo --out .. --overwrite                                 | one round it
grpo --out / --overwrite                                  | one round it
grpo --out repository                                     | a git repository
grpo --out repository --overwrite                         | a git repository
grpo --out same --sft-run same --overwrite                | what --sft-run names
grpo --out text.txt                                       | cannot write
grpo --out text.txt/run                                   | cannot write
grpo --out /proc/nowhere/run                              | cannot write
grpo --dance                                              | unrecognized arguments: --dance
grpo stray                                                | unrecognized arguments: stray
grpo --step 3                                             | unrecognized arguments: --step
grpo --lr                                                 | expected one argument
sft --model gpt5                                          | unknown model
sft --lr nan                                              | --lr: a number
sft --text-share 2                                        | --text-share: a number from 0 to 1
sft --multi-share -1                                      | --multi-share: a number from 0 to 1
sft --fallback-share nan                                  | --fallback-share: a number from 0 to 1
sft --batch 0                                             | --batch: a whole number
sft --steps -1                                            | --steps: a whole number from 0
sft --epochs 0                                            | --epochs: a number from 0.01
sft --epochs 2 --steps 10                                 | --epochs or --steps
sft --per-task 0                                          | --per-task: a whole number
sft --optimizer sgd                                       | --optimizer
sft --model ./other --out other                           | what --model names
sft --model ./other --out other --overwrite               | what --model names
sft --model ./inside/model --out inside                   | what --model names
sft --data inside/data.jsonl --out inside --overwrite     | what --data names
sft --data nowhere.jsonl                                  | cannot read nowhere.jsonl
sft --data stuff                                          | cannot read stuff
sft --data none.jsonl                                     | holds no conversations
sft --data cut.jsonl                                      | line 1: not JSON
sft --data chat-list.jsonl                                | line 1: an object is needed
sft --data chat-keys.jsonl                                | line 1: a list `messages`
sft --data chat-null.jsonl                                | line 1: a message of the assistant has no text
sft --data chat-tool.jsonl                                | line 1: 'tool' is no role
sft --data chat-role.jsonl                                | line 1: 'narrator' is no role
sft --data chat-order.jsonl                               | line 1: after the system message
sft --data chat-empty.jsonl                               | line 1: a list `messages`
sft --data chat-text.jsonl                                | line 1: a list `messages`
sft --data chat-latin.jsonl                               | line 1: not UTF-8
sft --data chat-deep.jsonl                                | line 1: not JSON
sft --data chat-long.jsonl                                | fits into --episode-tokens 320
evaluate --run nowhere                                    | holds no policy
evaluate --run damaged                                    | damaged
evaluate --run odd                                        | damaged
evaluate --run other --model tiny                         | a policy of 3b, not of tiny
evaluate --top-p 0                                        | --top-p: a number from 0.01 to 1
evaluate --top-p 2                                        | --top-p: a number from 0.01 to 1
evaluate --temperature -1                                 | --temperature: a number from 0 to 10
evaluate --samples 1000000000                             | --samples: a whole number from 1 to 1,024
evaluate --questions 0                                    | --questions: a whole number
evaluate --against nowhere.json                           | is no evaluation
evaluate --against text.txt                               | is no evaluation
evaluate --base --out stuff                               | cannot write
evaluate --base --out /proc/nowhere.json                  | cannot write
evaluate --base --device banana                           | torch sees cpu
curriculum                                                | holds no policy
curriculum --questions 0                                  | --questions: a whole number
curriculum --potential-samples 0                          | --potential-samples: a whole number
r1ci dance                                                | unknown command
r1ci tasks chess                                          | no task
r1ci tasks game24 --level 7                               | --level
r1ci tasks game24 --seed x                                | --seed: a whole number
r1ci tasks tiny --audit --seeds 0                         | --seeds: a whole number
r1ci tasks tiny --audit --write stuff                     | cannot write
r1ci tasks tiny --audit --write text.txt/TASKS.md         | cannot write
r1ci ask x --run nowhere                                  | holds no policy
r1ci ask x --temperature -1                               | --temperature: a number from 0
r1ci ask x --device banana                                | torch sees cpu
r1ci ask x --model nobody/nothing                         | no network
r1ci run --model gpt5                                     | unknown model
r1ci run --budget soon                                    | a time such as
r1ci run --budget -2h                                     | --budget
r1ci run --tasks chess                                    | no task
r1ci run --tasks train --test-tasks game24                | must not share tasks
r1ci run --write stuff                                    | cannot write
r1ci run --lr 3                                           | unrecognized arguments
r1ci run --sft-flags "--lr nan"                           | --lr: a number
r1ci run --rl-flags "--reward love"                       | outcome, shaped
r1ci run --rl-flags "--out x"                             | is chosen by r1ci.py run
r1ci results nowhere                                      | no finished run
r1ci report nowhere                                       | nowhere
r1ci evaluate --model openai:x --base-url nonsense        | nonsense
r1ci evaluate --model openai:x --price-in -1              | --price-in: a number
r1ci evaluate --model openai:x --concurrency 0            | --concurrency: a whole number
r1ci evaluate --model openai:x --api-timeout nan          | --api-timeout: a number
r1ci teach --teacher openai:x                             | --out
r1ci teach --teacher openai:x --out stuff                 | cannot write
r1ci teach --teacher openai:x --out text.txt              | is there already
r1ci teach --teacher openai:x --out t.jsonl --rounds 0    | --rounds: a whole number
r1ci ablate                                               | --over
r1ci ablate --over everything                             | no variant is called
r1ci ablate --over mode --seeds 1,1                       | different numbers
r1ci ablate --over mode --seeds x                         | --seeds: a whole number
r1ci ablate --over mode --table stuff                     | cannot write
r1ci ablate --over mode --eval-questions 0                | nothing to compare
r1ci reproduce --only everything                          | no claim is called
r1ci plan --model gpt5                                    | unknown model
r1ci plan --gpu-memory 0                                  | --gpu-memory: a number
r1ci plan --model 14b --gpu-memory 1                      | does not fit
r1ci export --run nowhere --out e                         | holds no policy
r1ci export --run nowhere                                 | --out
r1ci bench speed                                          | speed
r1ci bench rollout --episodes 0                           | --episodes: a whole number
r1ci bench rollout --rounds x                             | --rounds: a whole number
""".strip().splitlines()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with all kinds of files that are no good."""
    folder = tmp_path_factory.mktemp("place") / "here"
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def listing(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
            for path in folder.rglob("*")}


def refused(words, capsys):
    """The one line that this command ends with."""
    script, *arguments = words
    with pytest.raises(SystemExit) as stop:
        runs.command(lambda: SCRIPTS[script].main(arguments))
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2 and len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def test_there_are_enough_cases():
    assert len(CASES) >= 120 and len({case.partition("|")[0].strip() for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.partition("|")[0].strip())
def test_one_line_and_nothing_else(place, monkeypatch, capsys, case):
    monkeypatch.chdir(place)
    before, (words, _, expected) = listing(place), case.partition("|")
    line = refused(shlex.split(words), capsys)
    assert expected.strip() in line
    assert listing(place) == before
