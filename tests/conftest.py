"""Shared pieces: the tokenizer, small policies that have learned to write programs, and one sandbox."""
import contextlib
import copy
import functools
import importlib
import itertools
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from multiprocessing import forkserver
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: no test waits for a hub

import pytest
import torch
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2ForCausalLM

# A shell that starts the tests with "&" has them ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
torch.set_num_threads(1)  # the policies are small; more threads only get into each other's way
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import grpo
import models
import runs
import sandbox
import sft
from batches import Trainer, trained_parameters
from chat import Chat
from sandbox import Sandbox
from tasks import TASKS, draw, select
from trajectories import encode, make

OURS = set(TASKS)
own_sandbox = sandbox.from_args


@functools.cache
def one_sandbox():
    """The sandbox of this process: to start one takes a second of computing."""
    return Sandbox(timeout=5.0)


def pytest_unconfigure():
    if one_sandbox.cache_info().currsize:
        one_sandbox().close()


def shared_sandbox(args):
    """Commands that run inside this process, with the usual flags, share its sandbox."""
    usual = (args.sandbox, args.sandbox_timeout) == ("auto", 5.0)
    return contextlib.nullcontext(one_sandbox()) if usual else own_sandbox(args)


sandbox.from_args = shared_sandbox


@pytest.fixture(autouse=True)
def only_our_tasks():
    """A test that reads questions from a file adds a task; the next test shall not see it."""
    yield
    for name in set(TASKS) - OURS:
        del TASKS[name]


@pytest.fixture(scope="session")
def tokenizer():
    return models.tiny_tokenizer()


@pytest.fixture(scope="session")
def box():
    return one_sandbox()


@pytest.fixture(scope="session")
def chat(tokenizer):
    return Chat(tokenizer, style="short")


@pytest.fixture(scope="session")
def conversations(chat, box):
    """Worked conversations about the tiny tasks, several turns in a third of them."""
    return make(draw(select("tiny"), "sft", 160, (1,)), chat, box, text_share=0.3, multi_share=0.5)


def small_config(tokenizer, kind="qwen2"):
    if kind == "qwen2":
        return models.shape_config(2, 64, 4, 2, 128, len(tokenizer), True)
    return LlamaConfig(num_hidden_layers=2, hidden_size=64, num_attention_heads=4, num_key_value_heads=4,
                       intermediate_size=128, vocab_size=len(tokenizer), tie_word_embeddings=False)


def build(tokenizer, kind="qwen2"):
    torch.manual_seed(0)
    policy = {"qwen2": Qwen2ForCausalLM, "llama": LlamaForCausalLM}[kind](small_config(tokenizer, kind))
    return policy.eval()


def watched(forward, read):
    """A backbone's forward that writes down how many tokens it was given."""
    def count(self, input_ids, **options):
        read.append(input_ids.numel())
        return forward(self, input_ids=input_ids, **options)
    return count


KINDS = ["qwen2", "llama with pad = end of turn"]
one_kind = pytest.mark.parametrize("taught", KINDS[1:], indirect=True)  # where the other one would add little


@pytest.fixture(scope="session", params=KINDS)
def taught(request, tokenizer, chat, box):
    """(policy, tokenizer, chat): small models that have learned to write programs from conversations."""
    if request.param != "qwen2":
        tokenizer = copy.deepcopy(tokenizer)
        tokenizer.pad_token = tokenizer.eos_token
        chat = Chat(tokenizer, style="short")
    policy = build(tokenizer, request.param.split()[0])
    data = make(draw(select("count_bits"), "sft", 6, (1,)), chat, box, text_share=0.0, multi_share=0.8,
                learn_slips=True)  # so that it needs several turns
    examples = [encode(chat, record["messages"]) for record in data]
    trainer = Trainer(trained_parameters(policy.train()), 2e-2, 4096, "muon")
    for _ in range(40):
        sft.train_step(policy, trainer, examples, 2e-2)
    return policy.eval(), tokenizer, chat


# ------------------------------------------------------------------------------------ processes of their own
# A server that has imported everything, so that a process that is killed, or one of several, starts at once.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["grpo", "transformers.models.qwen2.modeling_qwen2"])


# ----------------------------------------------------------------------------------- two cores, two processes
CLAIMS = "R1CI_TESTS"  # a folder in which both processes note the files they have taken


def claimed(items, folder):
    """The items of the files that no other process has taken, file by file."""
    for path, group in itertools.groupby(items, key=lambda item: item.path):
        with contextlib.suppress(FileExistsError):
            (Path(folder) / path.stem).touch(exist_ok=False)
            yield from group


def pytest_runtestloop(session):
    """All tests on a machine with two cores or more: a second pytest takes every other file from the list."""
    folder, helper = os.environ.get(CLAIMS), None
    few = len(session.items) < 400 or (os.cpu_count() or 1) < 2 or session.config.option.collectonly
    if folder is None and few:
        return None  # pytest's own loop
    if folder is None:
        folder = tempfile.mkdtemp()
        helper = subprocess.Popen([sys.executable, "-m", "pytest", *session.config.invocation_params.args],
                                  env={**os.environ, CLAIMS: folder}, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True)
        os.environ["R1CI_SECOND"] = str(helper.pid)
    mine = claimed(session.items, folder)
    item = next(mine, None)
    while item:
        following = next(mine, None)
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.shouldfail or session.shouldstop:
            break
        item = following
    if helper:
        print(f"\n{helper.communicate()[0]}\n(so far the second process; now the first)")
        session.testsfailed += helper.returncode not in (0, 5)
        shutil.rmtree(folder)
    return True


def pytest_collection_finish(session):
    """The server imports beside the first tests, if there are tests that need it."""
    if any(hasattr(item.module, "start") for item in session.items):
        forkserver.ensure_running()


def chance(episode):
    """A reward for an untrained policy, which earns no other."""
    return float(sum(episode.ids) % 2)


def _main(module, arguments, environment, folder, out, err):
    os.environ.update(environment)
    os.chdir(folder)
    sys.stdout = open(out, "w", buffering=1)  # noqa: SIM115
    sys.stderr = open(err, "w", buffering=1) if err else sys.stdout  # noqa: SIM115
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is one between processes, which a killed one leaves behind
    grpo.REWARDS["chance"] = chance
    main = importlib.import_module(module).main
    runs.command(lambda: main([str(argument) for argument in arguments]))


def start(module, arguments, log, environment=None, folder=".", errors=None):
    """A process that runs module.main(arguments) and prints into the files `log` and `errors` (or `log`)."""
    process = FORKS.Process(target=_main, args=(module, arguments, environment or {}, folder, log, errors))
    process.start()
    return process
